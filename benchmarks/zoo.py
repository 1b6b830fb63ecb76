"""The models of the zoo: train them, and put what playing needs into the package.

    python benchmarks/zoo.py                  # all: about an hour of one core
    python benchmarks/zoo.py catch tmaze      # some

A run that is complete in --work is not repeated; one that was interrupted goes on. Of a run's last checkpoint the
networks are kept, as ``best`` keeps them, in float32; of its log the evaluation, every line of the learner and of
episodes every k-th. Then the model in the package, not the run, is evaluated over 100 episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.envs.env import shut
from reverie.play.card import as_markdown, model_card
from reverie.play.envs import make_env
from reverie.play.evaluate import evaluate
from reverie.report.record import FILE, encode, read_metrics
from reverie.run.checkpoint import Checkpoints
from reverie.run.configure import check_same, configure
from reverie.run.init import LEARNER
from reverie.run.train import resume, train
from reverie.run.tree import load_tree
from reverie.run.zoo import FOLDER
from reverie.study.compare import finished

EPISODES, RANDOM_EPISODES = 100, 1000
LINES = 300
"""of episodes, at most, in the log that is kept"""
LARGEST = 3_000_000
"""bytes of a model's checkpoint"""


@dataclass(frozen=True)
class Model:
    """A model to be made. words: of `reverie train`. about: one sentence. best: return of the best policy, if the
    environment does not know it."""

    words: str
    about: str
    best: float | None = None

    @property
    def command(self) -> str:
        """The command that trains it."""
        return f"reverie train {self.words}"


MODELS = {
    "catch": Model(
        "dreamerv2 --preset cpu --env toy/catch --frames 30000 --run.prefill 800 --seed 0",
        "DreamerV2 on Catch: a whole game of seven env_steps can be dreamed and played.",
    ),
    "noisy-catch": Model(
        "harmonydream --preset cpu --env toy/noisy-catch --frames 30000 --run.prefill 800 --seed 0",
        "HarmonyDream on Catch before a moving background: what a dream keeps, and what it leaves out.",
    ),
    "tmaze": Model(
        "r2d2 --preset cpu --env toy/tmaze --env.options.pixels true --agent.feed false --seed 0",
        "R2D2 in a T-maze in pictures: the cue of the first row is remembered until the junction, 10 env_steps later.",
    ),
    "cartpole": Model(
        "dqn --preset cpu --env CartPole-v1 --seed 0",
        "DQN on CartPole: the smallest of all, without a memory.",
        best=500.0,
    ),
}


def make(name: str, work: Path, folder: Path = FOLDER) -> Path:
    """Directory of a model, which is trained if it is not in `work`, and then written anew."""
    model, run_dir = MODELS[name], work / name
    trained(model, run_dir)
    entry = slim(run_dir, folder / name)
    result = evaluate(entry, episodes=EPISODES, out=entry)
    random, best = references(entry, model.best)
    seconds = max(record["time/elapsed_s"] for record in read_metrics(run_dir))
    about = {
        "about": model.about,
        "command": model.command,
        "minutes": round(seconds / 60, 1),
        "machine": f"{os.cpu_count()} x {platform.machine()}",
        "random": random,
        "best": best,
    }
    (entry / "entry.json").write_text(json.dumps(about, indent=2) + "\n")
    write_card(entry, about, result["score"])
    print(f"{name}: {result['score']:.3f}, random {random:.3f}, best {best:.3f}")
    return entry


def write_card(entry: Path, about: dict[str, Any], score: float) -> None:
    """Write the model card, as JSON and for people, with where the model comes from and what to compare it with."""
    card = model_card(entry)
    card["licence"]["networks"] = "MIT, as the library's"
    card["zoo"] = about
    (entry / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    head, _, rest = as_markdown(card).partition("## Scores\n")
    made = f"""## Where it comes from

{about["about"]}

    {about["command"]}

took {about["minutes"]:g} minutes on {about["machine"]}, with other work beside it, and the networks of its last
checkpoint are here, in float32. `python benchmarks/zoo.py {entry.name}` does both.

"""
    beside = f"""
Random actions score {about["random"]:.4g}, the best possible is {about["best"]:.4g}; this one scores {score:.4g}.
"""
    (entry / "README.md").write_text(f"{head}{made}## Scores\n{beside}{rest}")


def trained(model: Model, run_dir: Path) -> None:
    """Bring the run of a model to its end, if it is not there."""
    agent, *words = shlex.split(model.words)
    named = dict(zip(words[:4:2], words[1:4:2], strict=True))
    config = configure(agent, named["--preset"], named["--env"], _keys(words[4:]), {})
    if not (run_dir / "config.json").exists():
        train(config, run_dir)
        return
    check_same(config, run_dir)
    if not finished(run_dir):
        resume(run_dir)


def _keys(words: Sequence[str]) -> list[str]:
    """Overrides of words, with the short ``--seed`` spelt out."""
    return ["--run.seed" if word == "--seed" else word for word in words]


def slim(run_dir: Path, entry: Path) -> Path:
    """Directory `entry`, written anew: a run without rows, moments, and what else only training needs."""
    folder = Checkpoints(run_dir).find("latest")
    tree = load_tree(folder, (LEARNER,))
    kept = {name: tree[name] for name in ("env_steps", "frames", "learner_steps")}
    kept["trainer"] = {"learner": {"tensors": tree["trainer"]["learner"]["tensors"]}}
    shutil.rmtree(entry, ignore_errors=True)
    entry.mkdir(parents=True)
    Checkpoints(entry).save(kept["env_steps"], kept)
    files = [path for path in (entry / "checkpoints").rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST:
        raise SystemExit(f"{run_dir}: {size} bytes are more than {LARGEST}; train smaller networks")
    shutil.copyfile(run_dir / "config.json", entry / "config.json")
    lines = [
        json.dumps({key: encode(value) for key, value in record.items()}) for record in thin(read_metrics(run_dir))
    ]
    (entry / FILE).write_text("\n".join(lines) + "\n")
    return entry


def thin(records: Sequence[dict[str, Any]], most: int = LINES) -> list[dict[str, Any]]:
    """Records in their order, with every k-th of the episodes' such that at most `most` of these are left."""
    episodes = [number for number, record in enumerate(records) if "episode/score" in record]
    every = -(-len(episodes) // most) or 1
    kept = set(episodes[::every])
    return [record for number, record in enumerate(records) if "episode/score" not in record or number in kept]


def references(entry: Path, best: float | None) -> tuple[float, float]:
    """Returns of random actions and of the best policy: the environment's own, or measured, and `best`."""
    env = make_env(entry)
    spec = env.spec
    shut(env)
    random = spec.random_score
    if random is None:
        aside = entry / "random"
        random = evaluate(entry, episodes=RANDOM_EPISODES, play="random", out=aside)["score"]
        shutil.rmtree(aside)
    highest = best if spec.optimal_score is None else spec.optimal_score
    if highest is None:
        raise SystemExit(f"{spec.id} does not know its best score; name it in MODELS")
    return float(random), float(highest)


def main() -> None:
    """Make the models that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(MODELS)} [all]")
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="run directories")
    given = parser.parse_args()
    if unknown := set(given.names) - set(MODELS):
        parser.error(f"no model is called {', '.join(sorted(unknown))}")
    for name in given.names or MODELS:
        make(name, given.work)


if __name__ == "__main__":
    main()
