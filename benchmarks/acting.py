"""The acting path against a bare loop with the same network; see docs/performance.md.

    python benchmarks/acting.py --out results/performance/acting.json

Loops over ale-py's vector environment (Pong, 84x84 grayscale, sticky actions), interleaved so that a noisy machine
treats them alike: the raw environment with fixed actions; a bare loop with the Nature CNN (stacked frames made by the
emulator, argmax of the outputs); Reverie's actor with the same CNN: complete rows, a frame-stack core, and every row
into the replay; a bare loop with an LSTM of 512 units after the CNN; and Reverie's actor with the whole of R2D2's
network (which reads the last action and reward too, and has a dueling head), as in a run: rows, states and priorities
into the replay, rows to disk.
Reports env_steps/s of each, and ours as shares of the bare loops.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import platform
import pstats
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reverie.agents.agent import Decision, Noise, Policy, Seat
from reverie.data.replay import Replay
from reverie.data.rows import State, row_spec
from reverie.data.selectors import Uniform
from reverie.data.sequences import SequenceSpec
from reverie.envs.make import make_env
from reverie.nets.cores import FrameStack
from reverie.overrides import apply
from reverie.presets import make_config
from reverie.run.local import Local
from reverie.run.roles import Actor


def nature_cnn(actions: int) -> nn.Sequential:
    """Mnih et al. 2015: 84x84x4 -> Q-values. Source: their Methods section."""
    return nn.Sequential(
        nn.Conv2d(4, 32, 8, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, 1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, actions),
    )


class NaturePolicy(Policy):
    """Greedy Nature CNN on a stack of four frames."""

    noise = 1

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.core = FrameStack((84, 84, 1), 4)

    def initial_state(self, batch: int) -> State:
        """Black frames."""
        return self.core.initial_state(batch)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """Argmax of the Q-values. The noise is drawn, as every policy of a run does."""
        noise.uniform(len(rows["is_first"]), self.noise)
        stack, state = self.core.step(state, rows["obs.image"], rows["is_first"])
        q = self.net(stack.permute(0, 3, 1, 2).float().mul_(1 / 255))
        return Decision(q.argmax(-1), state)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Any, State]:
        """A loop of `step`; not used here."""
        raise NotImplementedError


def r2d2_run(num_envs: int, run_dir: Path) -> Local:
    """A run of R2D2 with the published network that only collects: rows, states and priorities, kept on disk too."""
    config = make_config("r2d2", "atari", "ALE/Pong-v5")
    replay = {
        "replay.store.budget": "2000000000",
        "replay.window.context": "0",
        "replay.window.learn": "20",
        "replay.window.period": "20",
    }
    config = apply(
        config, {"env.num_envs": str(num_envs), "env.options.full_actions": "false", "run.prefill": "0"} | replay
    )
    run = Local(config, run_dir)
    run.actor.start()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each loop in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from ale_py.vector_env import AtariVectorEnv

    n = options.envs
    torch.manual_seed(0)
    bare_env = AtariVectorEnv(
        "pong",
        n,
        repeat_action_probability=0.25,
        full_action_space=False,
        noop_max=30,
        use_fire_reset=False,
        reward_clipping=False,
    )
    net = nature_cnn(int(bare_env.single_action_space.n)).to(memory_format=torch.channels_last)
    policy = NaturePolicy(net)
    env = make_env("ALE/Pong-v5", num_envs=n, protocol="atari-84", full_actions=False)
    spec = row_spec(env.spec.observation, env.spec.action)
    replay = Replay(spec, SequenceSpec(3, 1, 1), n, None, Uniform(), 0, capacity=100 * n)
    actor = Actor(env, policy, lambda rows, streams, state, version: replay.add(rows, streams), 0)
    actor.start()
    seat = Seat.alone(n)
    kept = tempfile.TemporaryDirectory()
    recurrent = r2d2_run(n, Path(kept.name))
    cell, head = nn.LSTMCell(512, 512), nn.Linear(512, int(bare_env.single_action_space.n))
    memory = torch.zeros(n, 512), torch.zeros(n, 512)
    obs, _ = bare_env.reset(seed=0)
    fixed = np.zeros(n, np.int64)

    def raw() -> None:
        bare_env.step(fixed)

    def bare() -> None:
        nonlocal obs
        with torch.inference_mode():
            x = torch.from_numpy(obs).float().mul_(1 / 255)
            action = net(x.contiguous(memory_format=torch.channels_last)).argmax(-1).numpy()
        obs = bare_env.step(action)[0]

    def bare_lstm() -> None:
        nonlocal obs, memory
        with torch.inference_mode():
            x = torch.from_numpy(obs).float().mul_(1 / 255)
            memory = cell(net[:-1](x.contiguous(memory_format=torch.channels_last)), memory)
            action = head(memory[0]).argmax(-1).numpy()
        obs = bare_env.step(action)[0]

    def forward() -> None:
        with torch.inference_mode():
            net(torch.from_numpy(obs).float().mul_(1 / 255).contiguous(memory_format=torch.channels_last))

    loops: dict[str, Callable[[], Any]] = {
        "raw": raw,
        "bare": bare,
        "reverie": lambda: actor.step(seat),
        "bare_lstm": bare_lstm,
        "reverie_r2d2": recurrent.act,
        "network_alone": forward,
    }
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        for _ in range(3):
            loop()
    for _ in range(options.rounds):
        for name, loop in loops.items():
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < options.seconds:
                loop()
                count += n
            rates[name].append(count / (time.perf_counter() - began))
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(40):
        actor.step(seat)
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(10)
    shares = {
        ours: [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
        for ours, theirs in (("reverie", "bare"), ("reverie_r2d2", "bare_lstm"))
    }
    document = {
        "what": f"acting on ALE/Pong-v5, {n} environments, 84x84x4, Nature CNN",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "env_steps_per_s": {name: {"median": float(np.median(r)), "all": r} for name, r in rates.items()},
        "share_of_bare_loop": {name: {"median": float(np.median(r)), "all": r} for name, r in shares.items()},
        "profile_of_40_steps": [line.strip() for line in text.getvalue().splitlines() if line.strip()][3:16],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    output = json.dumps(document, indent=2)
    print(output)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(output + "\n")


if __name__ == "__main__":
    main()
