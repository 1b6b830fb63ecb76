"""The site is built without a warning: no broken link, no missing anchor, no page or name that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_site_has_no_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "index.html").read_text()
    assert 'src="results/play/page-1280-light.png"' in first
    assert (tmp_path / "results" / "play" / "page-1280-light.png").exists()
    equations = (tmp_path / "reference" / "equations.html").read_text()
    assert 'id="reverie.ops.returns.lambda_returns"' in equations
