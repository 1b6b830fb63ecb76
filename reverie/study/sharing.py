"""Runs at once on one machine: what their replays take together, said before the first of them begins."""

from __future__ import annotations

from collections.abc import Iterable

from reverie.config import Config
from reverie.data.rows import bytes_of, row_spec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.machine import gpu_memory, in_words, memory
from reverie.run.build import build_env, evaluation_streams, pick_device
from reverie.run.length import run_length


def together(runs: Iterable[Config], jobs: int) -> str:
    """Line that says what the replays of the `jobs` largest runs take, for runs that go on together; empty for one.

    Counted is what a run fills of its budget with what an environment gives; on a GPU the whole budget, which is taken
    at once. States and extras of an agent come on top, and each run's networks.
    Raises UserError if the memory of the machine, or of its GPU, is less than that.
    """
    pending = list(runs)
    if min(jobs, len(pending)) < 2:
        return ""
    seen: dict[str, EnvSpec] = {}
    sizes: dict[str, list[float]] = {}
    for config in pending:
        store = config.replay.store
        device = pick_device(config.run.device)
        if store.place == "device" and device.type == "cuda":
            sizes.setdefault(str(device), []).append(store.budget)
            continue
        if (kind := repr(config.env)) not in seen:
            seen[kind] = _spec(config)
        spec = seen[kind]
        rows = run_length(config, spec.action_repeat).env_steps * bytes_of(row_spec(spec.observation, spec.action))
        sizes.setdefault("", []).append(min(store.budget, rows) * max(1, config.population.size))
    said = []
    for gpu, each in sizes.items():
        there = gpu_memory(gpu) if gpu else memory()
        assert there is not None
        asked, count = sum(sorted(each)[-jobs:]), min(jobs, len(each))
        where = f"the memory of {gpu}" if gpu else "memory"
        if asked > there.total:
            raise UserError(
                f"the replays of {count} runs at once come to {in_words(asked)}, more than the {in_words(there.total)} "
                f"of {where}: fewer --jobs, or a smaller replay.store.budget"
            )
        said.append(f"{in_words(asked)} of {in_words(there.total)} of {where}")
    return f"{min(jobs, len(pending))} runs at once: their replays take {' and '.join(said)} when full"


def _spec(config: Config) -> EnvSpec:
    """What one stream of each of the run's environments gives."""
    env = build_env(config, evaluation_streams(config, episodes=1))
    try:
        return env.spec
    finally:
        env.close()
