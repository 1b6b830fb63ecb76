"""What pyproject.toml cannot say: a wheel has the claims of results/ with it, and the numbers that they were made from.

They are kept once, in results/; in an installed package they lie under reverie/results/.
"""

import json
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESULTS = Path("results")


class WithClaims(build_py):
    """Build of the package's files, and of those that `reverie reproduce` reads."""

    def run(self) -> None:
        """Copy them, unless the package is used where it lies."""
        super().run()
        if self.editable_mode:
            return
        claims = sorted((RESULTS / "claims").glob("*.json"))
        committed = {RESULTS / json.loads(claim.read_text())["committed"] for claim in claims}
        for path in (*claims, *sorted(committed)):
            target = Path(self.build_lib) / "reverie" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(cmdclass={"build_py": WithClaims})
