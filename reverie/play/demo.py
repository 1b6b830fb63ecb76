"""``make demo``: a DreamerV2 learns a small game from pixels in a few minutes, and shows what it dreams."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reverie.agents.agent import placed
from reverie.config import Config
from reverie.envs.env import shut
from reverie.errors import UserError
from reverie.play.dream import dream
from reverie.play.evaluate import evaluate
from reverie.presets import make_config
from reverie.report.curves import learning_curve
from reverie.run.build import build_agent, build_env, build_policy, derive, env_spec, pick_device
from reverie.run.lock import is_trained
from reverie.run.roles import Evaluator
from reverie.run.train import train

GAME = "toy/catch"
EPISODES = 100
MARK = "demo"
"""empty file in the directory of a run that the next demo may remove"""


def demo(out: Path) -> None:
    """Train the `cpu` preset on Catch, then print a table of scores and the paths of a curve and of a dream."""
    out = Path(out)
    config = make_config("dreamerv2", "cpu", GAME)
    make_room(out / "run")
    console = Console()
    console.print(f"[bold]DreamerV2 learns {GAME} from pixels[/bold]: catch the falling ball, +1 or -1 at the end.")
    before = _untrained(config)
    began = time.perf_counter()
    if "stopped" in train(config, out / "run"):
        return  # it has said how to go on
    minutes = (time.perf_counter() - began) / 60
    after = evaluate(out / "run", episodes=EPISODES, video=True)
    spec = env_spec(config)
    references = {"random": spec.random_score or 0.0, "optimal": spec.optimal_score or 0.0}
    curve = learning_curve(
        [out / "run"], out / "learning_curve.png", references=references, title=f"DreamerV2 on {GAME}"
    )
    dreamed = dream(out / "run", context=2, horizon=8, out=out)
    table = Table(title=f"{GAME}, mean return over {EPISODES} episodes")
    for column in ("random", "before", "after", "optimal"):
        table.add_column(column, justify="right")
    scores = (references["random"], before, after["score"], references["optimal"])
    table.add_row(*(f"{score:+.2f}" for score in scores))
    console.print(table)
    console.print(f"trained for {after['env_steps']} env_steps in {minutes:.1f} minutes")
    for name, path in (
        ("learning curve", curve),
        ("dream", dreamed["files"]["gif"]),
        ("dream, as a strip", dreamed["files"]["strip"]),
        ("it plays", after["video"]),
    ):
        console.print(f"{name:>18}  {path}", soft_wrap=True, highlight=False)
    console.print("next: reverie train dreamerv2 --preset cpu --env ALE/Pong-v5 --frames 80000 --logdir runs/pong")


def make_room(run_dir: Path) -> None:
    """Remove what a demo left, and mark its place. Raises UserError for anything else that is there."""
    if run_dir.exists():
        if not (run_dir / MARK).exists():
            raise UserError(f"{run_dir} is there and not marked as a demo's: remove it, or name another --out")
        if is_trained(run_dir):
            raise UserError(f"a demo is at work in {run_dir}; wait for it, or name another --out")
        shutil.rmtree(run_dir)
    run_dir.mkdir(parents=True)
    (run_dir / MARK).touch()


def _untrained(config: Config) -> float:
    env = build_env(config, 10)
    policy = placed(build_policy(config, build_agent(config, env.spec)), pick_device(config.run.device))
    results = Evaluator(env, policy, EPISODES, derive(config.run.seed, "before")).run()
    shut(env)
    return float(np.mean(results["scores"]))
