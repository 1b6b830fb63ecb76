"""Tiny runs for the tests of the runner: a configuration that takes a second or two, and ways to compare two runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import overrides
from reverie.config import Config
from reverie.presets import make_config
from reverie.report.log import comparable, read_metrics
from reverie.run.checkpoint import Checkpoints
from reverie.run.lock import Stop as LockStop
from reverie.run.runner import Runner
from reverie.run.saved_config import save_config
from reverie.run.train import beside

SMALL: dict[str, Any] = {
    **{
        f"agent.{part}.{key}": value
        for part in ("encoder", "decoder")
        for key, value in {"depth": 2, "layers": 1, "units": 8}.items()
    },
    **{f"agent.rssm.{key}": value for key, value in {"deter": 8, "hidden": 8, "stoch": 2, "classes": 4}.items()},
    **{
        f"agent.{head}.{key}": value
        for head in ("actor", "critic", "reward", "discount")
        for key, value in {"layers": 1, "units": 8}.items()
    },
    "agent.horizon": 3,
    "agent.target_every": 3,
    "env.num_envs": 2,
    "replay.batch": 2,
    "replay.window.learn": 4,
    "replay.store.chunk": 16,
    "run.threads": 1,
    "run.env_steps": 160,
    "run.prefill": 40,
    "run.pretrain": 2,
    "run.train_ratio": 1.0,
    "run.log_every": 10,
    "run.checkpoint_every": 20,
    "run.eval_every": 60,
    "run.eval_episodes": 3,
    "run.eval_envs": 2,
}
"""Overrides of the preset `cpu`."""
WORDS: dict[str, list[str]] = {
    # CartPole's ring holds fewer rows than the run makes, so that chunk files are evicted.
    "toy/catch": [],
    "CartPole-v1": ["--replay.store.budget", "4700", "--replay.selector", "recency", "--seed", "3"],
}
"""Environments and further words for the command line."""


def words(env: str, logdir: Path | str, *further: str) -> list[str]:
    """The command line of a tiny run."""
    small = [f"--{key}={value}" for key, value in SMALL.items()]
    return ["train", "dreamerv2", "--env", env, "--logdir", str(logdir), *small, *WORDS.get(env, []), *further]


def config(env: str, **changes: Any) -> Config:
    """The same as a configuration. changes: ``run__seed=1`` for ``run.seed``."""
    given = overrides.parse([word.replace("--seed", "--run.seed") for word in WORDS.get(env, [])])
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return overrides.apply(make_config("dreamerv2", "cpu", env), {**SMALL, **given, **dotted})


class Crash(BaseException):
    """Ends a run where it is, as a kill does: nothing is caught, nothing is saved."""


class Never(LockStop):
    """Asks nothing."""


class Stop(LockStop):
    """Asks a run to save and end, or crashes it, once it has made `env_steps` env_steps."""

    def __init__(self, local: Runner, env_steps: int, crash: bool = False) -> None:
        super().__init__()
        self.local, self.env_steps, self.crash = local, env_steps, crash

    def __call__(self) -> bool:
        reached = self.local.run.clock.env_steps >= self.env_steps
        if reached and self.crash:
            raise Crash
        return reached


def begin(settings: Config, run_dir: Path) -> Any:
    """A new run, not started."""
    run_dir.mkdir(parents=True)
    save_config(settings, run_dir)
    return beside(settings)(settings, run_dir)


def again(settings: Config, run_dir: Path) -> Any:
    """The run that is there, with all global generators somewhere else."""
    torch.manual_seed(int(np.random.default_rng().integers(1 << 30)))
    run = beside(settings)(settings, run_dir)
    run.restore()
    return run


def lines(run_dir: Path) -> list[str]:
    """What a run logged, without clock readings, as text (in which NaN equals NaN)."""
    return [repr(comparable(record)) for record in read_metrics(run_dir)]


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a tree with their paths; tensors and arrays as bytes."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(tree, torch.Tensor):
        yield path, (str(tree.dtype), tuple(tree.shape), tree.numpy().tobytes())
    elif isinstance(tree, np.ndarray):
        yield path, (str(tree.dtype), tree.shape, tree.tobytes())
    else:
        yield path, tree


def final(run_dir: Path) -> dict[str, Any]:
    """The leaves of the newest checkpoint, but for those that depend on the clock or on when files were evicted."""
    found = dict(leaves(Checkpoints(run_dir).load()))
    return {path: leaf for path, leaf in found.items() if path != "/offset" and not path.endswith("/record/sealed")}


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_run(one: Path, other: Path) -> None:
    """Equal metrics line by line, an equal newest checkpoint bit by bit, and equal chunk files."""
    ours, theirs = lines(one), lines(other)
    for number, (left, right) in enumerate(zip(ours, theirs, strict=False), start=1):
        assert left == right, f"line {number} differs"
    assert len(ours) == len(theirs)
    left_leaves, right_leaves = final(one), final(other)
    assert left_leaves.keys() == right_leaves.keys()
    assert [path for path in left_leaves if left_leaves[path] != right_leaves[path]] == []
    left_files, right_files = files(one / "replay"), files(other / "replay")
    common = left_files.keys() & right_files.keys()
    assert len(common) >= 4
    assert [name for name in common if left_files[name] != right_files[name]] == []
