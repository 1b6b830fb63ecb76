"""Default presets, asked for nothing: agents on environments that no preset of theirs was made for.

    pip install minigrid MinAtar popgym box2d
    python benchmarks/defaults.py agent dqn            # one agent on all environments -> results/defaults/dqn.json
    python benchmarks/defaults.py random               # uniform play -> results/defaults/random.json
    python benchmarks/defaults.py sb3                  # stable-baselines3's DQN with its defaults
    python benchmarks/defaults.py table                # results/defaults/README.md out of what is there

Runs are in --work [runs/defaults] and are not repeated. Each file is written after every environment. A score is the
mean return of 100 episodes played greedily after the last env_step, whatever the best one before was; of agents whose
policy is what they learn (A2C, A3C, IMPALA) the file also has ``drawn``, as much with actions drawn from the policy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

ENVS = {
    "Acrobot-v1": "minus the env_steps to swing up, at most 500",
    "LunarLander-v3": "solved from 200 on",
    "MountainCar-v0": "minus the env_steps to the top, at most 200: sparse",
    "MinAtar/Breakout-v1": "bricks hit; images of planes",
    "MiniGrid-Empty-8x8-v0": "1 - 0.9 x the share of 256 env_steps used, 0 if the goal was not found",
    "popgym-RepeatPreviousEasy-v0": "-1 to 1; the card of 4 decks that was shown 4 env_steps ago: asks for memory",
}
"""id -> what its score is"""
AGENTS = ("dqn", "rainbow", "r2d2", "apex", "a2c", "a3c", "impala", "dreamerv2")
POLICIES = ("a2c", "a3c", "impala")
"""agents whose policy is what they learn: also played by drawing from it"""
SEEDS = (100, 101, 102)
EPISODES = 100


def agent(name: str, envs: list[str], seeds: tuple[int, ...], jobs: int, work: Path, out: Path) -> None:
    """Runs of one agent with its default preset."""
    from reverie.study.compare import Comparison, Variant, compare

    file = out / f"{name}.json"
    for env in envs:
        place = work / env.replace("/", "-")
        request = Comparison(env, (Variant(name, name),), seeds, place, place / name, episodes=EPISODES, jobs=jobs)
        document = compare(request, say=lambda line, env=env: print(f"{env}: {line}", flush=True))
        runs = document["runs"][name]
        measured = {
            "preset": document["preset"],
            "env_steps": runs[0]["env_steps"],
            "seeds": list(seeds),
            "scores": [run["score"] for run in runs],
            "minutes": [run["minutes"] for run in runs],
        }
        if name in POLICIES:
            measured["drawn"] = [_drawn(place / f"{name}-{seed}") for seed in seeds]
        _add(file, env, measured, f"python benchmarks/defaults.py agent {name}", jobs)


def _drawn(run_dir: Path) -> float:
    """Mean return of actions drawn from the run's last policy."""
    from reverie.play.evaluate import evaluate

    return float(evaluate(run_dir, episodes=EPISODES, play="explore")["score"])


def random(seeds: tuple[int, ...], out: Path) -> None:
    """Uniform play of the plain environments."""
    for env in ENVS:
        single = _plain(env)
        scores = []
        actions = int(single.action_space.n)
        for seed in seeds:
            rng = np.random.default_rng(seed)
            play = lambda obs, rng=rng, actions=actions: int(rng.integers(actions))  # noqa: E731
            scores.append(_score(single, play, seed))
        _add(out / "random.json", env, {"seeds": list(seeds), "scores": scores}, "python benchmarks/defaults.py random")


def sb3(envs: list[str], seeds: tuple[int, ...], out: Path, lengths: dict[str, int]) -> None:
    """stable-baselines3's DQN with the defaults of its constructor, for as many env_steps as our dqn had there."""
    import stable_baselines3
    import torch

    torch.set_num_threads(1)
    for env in envs:
        scores, minutes = [], []
        for seed in seeds:
            began = time.monotonic()
            model = stable_baselines3.DQN("MlpPolicy", _numbers(_plain(env)), seed=seed, device="cpu")
            model.learn(lengths[env])
            minutes.append((time.monotonic() - began) / 60)
            play = lambda obs, model=model: int(model.predict(obs, deterministic=True)[0])  # noqa: E731
            scores.append(_score(_numbers(_plain(env)), play, seed))
            print(f"{env}: sb3 seed {seed}: {scores[-1]:.3f} after {minutes[-1]:.1f} minutes", flush=True)
        measured = {"env_steps": lengths[env], "seeds": list(seeds), "scores": scores, "minutes": minutes}
        measured["version"] = stable_baselines3.__version__
        _add(out / "sb3.json", env, measured, "python benchmarks/defaults.py sb3")


def table(out: Path) -> None:
    """The files as one table."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    names = [name for name in ("random", "sb3", *AGENTS) if name in files]
    titles = {"random": "uniform play", "sb3": "stable-baselines3 DQN"}
    lines = [
        "# Default presets, asked for nothing",
        "",
        "Median and all seeds (100, 101, 102) of the mean return of 100 greedy episodes after the last env_step. The",
        "presets choose by spaces; none of them was made for these environments, bad scores are here too. Made by",
        "`python benchmarks/defaults.py`; stable-baselines3's DQN has the defaults of its constructor (MlpPolicy on",
        "flat numbers) and as many env_steps as `dqn`. Minutes in the files are of a machine that did other work, too.",
        "`drawn`, where it was measured: the same policies, acting by draws and not by the most probable action.",
        "`dreamerv2` on images (30k) is its preset of before: 800 of 30 000 env_steps at random, now 5000 of 40 000.",
        "",
        "| environment | " + " | ".join(titles.get(name, f"`{name}`") for name in names) + " |",
        "|---" * (1 + len(names)) + "|",
    ]
    for env in ENVS:
        cells = [_cell(files[name]["envs"].get(env)) for name in names]
        lines.append(f"| {env} | " + " | ".join(cells) + " |")
    lines += ["", "| environment | score |", "|---|---|", *(f"| {env} | {what} |" for env, what in ENVS.items()), ""]
    (out / "README.md").write_text("\n".join(lines))
    print("\n".join(lines))


def _cell(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "not measured"
    scores = measured["scores"]
    steps = f"; {measured['env_steps'] // 1000}k" if "env_steps" in measured else ""
    drawn = f"; drawn {', '.join(map(_short, measured['drawn']))}" if "drawn" in measured else ""
    return f"**{_short(float(np.median(scores)))}** ({', '.join(map(_short, scores))}{steps}{drawn})"


def _short(score: float) -> str:
    return f"{score:.2f}" if abs(score) < 10 else f"{score:.0f}"


def _plain(env: str) -> Any:
    """The environment as its package makes it, without its texts."""
    import gymnasium

    module = {"MinAtar": "minatar.gym", "MiniGri": "minigrid", "popgym-": "popgym"}.get(env[:7])
    if module is not None:
        brought = importlib.import_module(module)
        if module == "minatar.gym" and env not in gymnasium.registry:
            brought.register_envs()
    single = gymnasium.make(env)
    if module == "minigrid":
        single = importlib.import_module("minigrid.wrappers").ImgObsWrapper(single)
    return single


def _numbers(single: Any) -> Any:
    """The environment with boxes as flat float32, for a policy of vectors."""
    import gymnasium
    from gymnasium import spaces

    space = single.observation_space
    if not isinstance(space, spaces.Box) or space.dtype == np.float32:
        return single
    flat = spaces.Box(float(space.low.min()), float(space.high.max()), (int(np.prod(space.shape)),), np.float32)
    change = lambda obs: np.asarray(obs, np.float32).reshape(-1)  # noqa: E731
    return gymnasium.wrappers.TransformObservation(single, change, flat)


def _score(single: Any, play: Any, seed: int) -> float:
    returns = []
    for episode in range(EPISODES):
        obs, _ = single.reset(seed=10_000 * seed + episode)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = single.step(play(obs))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def _add(file: Path, env: str, measured: dict[str, Any], command: str, jobs: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(file.read_text()) if file.exists() else {}
    document |= {"command": command, "episodes": EPISODES, "jobs_at_a_time": jobs}
    document.setdefault("envs", {})[env] = measured
    file.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["agent", "random", "sb3", "table"])
    parser.add_argument("name", nargs="?", choices=AGENTS)
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=list(ENVS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--out", type=Path, default=Path("results/defaults"))
    options = parser.parse_args()
    seeds = tuple(options.seeds)
    if options.what == "agent":
        agent(
            options.name or parser.error("which agent?"), options.envs, seeds, options.jobs, options.work, options.out
        )
    elif options.what == "random":
        random(seeds, options.out)
    elif options.what == "sb3":
        ours = json.loads((options.out / "dqn.json").read_text())["envs"]
        sb3(options.envs, seeds, options.out, {env: ours[env]["env_steps"] for env in options.envs})
    else:
        table(options.out)


if __name__ == "__main__":
    main()
