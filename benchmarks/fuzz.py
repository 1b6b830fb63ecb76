"""Environments of random plans, with faults at random moments: are all played rightly, or refused in one line?

    python benchmarks/fuzz.py [--plans 500] [--train 20] [--first 0]

Every plan (`tests/envs/fuzzed.py`) is checked, stepped against an independent loop over the plain environment, and
played by a loaded policy; those from --first on, --train of them, are trained, stopped, resumed and evaluated too.
Prints what failed, and how many of how many did not. Plans are the same at every call.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.envs import fuzz
from tests.envs.fuzzed import Plan, plans


def main() -> None:
    """Play all plans; exit code 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=500)
    parser.add_argument("--train", type=int, default=20, help="how many of them are trained on, too")
    parser.add_argument(
        "--first", type=int, default=0, help="the first one that is trained on; no other is played then"
    )
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    made: list[Plan] = []

    @given(plans())
    @settings(
        max_examples=asked.plans, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def collect(plan: Plan) -> None:
        made.append(plan)

    collect()
    good, refused = 0, 0
    numbered = list(enumerate(made))[asked.first :][: asked.train if asked.first else None]
    for number, plan in numbered:
        failures: list[str] = []
        tried(failures, lambda plan=plan: fuzz.check_checks(plan))
        tried(failures, lambda plan=plan: fuzz.check_load(plan))
        line = tried(failures, lambda plan=plan: fuzz.check_rows(plan))
        if number < asked.first + asked.train:
            agent = "dqn" if plan["action"]["is"] == "discrete" and number % 2 else "dreamerv2"
            with tempfile.TemporaryDirectory() as folder:
                run_dir = Path(folder) / "run"
                tried(failures, lambda plan=plan, agent=agent, run_dir=run_dir: fuzz.check_train(plan, agent, run_dir))
        for failure in failures:
            print(f"plan {number} {plan}\n{failure}", flush=True)
        good += not failures
        refused += not failures and line is not None
    played = f"{good - refused} played rightly, {refused} with a fault refused"
    print(f"{good} of {len(numbered)}: {played}; {asked.train} trained")
    sys.exit(good < len(numbered))


def tried(failures: list[str], call: Callable[[], str | None]) -> str | None:
    """What a check returns; what it raises goes to the failures."""
    try:
        return call()
    except Exception:
        failures.append(traceback.format_exc())
        return None


if __name__ == "__main__":
    main()
