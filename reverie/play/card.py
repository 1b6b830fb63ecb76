"""The model card of a run: what its networks are, what they were trained on, and what they scored, with all seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gymnasium import spaces

from reverie import overrides
from reverie.agents import find
from reverie.envs.env import EnvSpec
from reverie.report.record import read_metrics
from reverie.run.build import env_spec
from reverie.run.checkpoint import Checkpoints
from reverie.run.saved_config import load_chain, versions
from reverie.run.tree import load_tree
from reverie.run.zoo import model_name, resolve, results_folder

FORMAT = 1
"""of the document"""
LICENCE = {"library": "MIT", "networks": "none is stated; that is for those who trained them to say"}


def model_card(run_dir: str | Path, checkpoint: str = "latest", spec: EnvSpec | None = None) -> dict[str, Any]:
    """The model card of a run's checkpoint (``latest``, ``best`` or env_steps), as a document that JSON can hold.

    ::

        name, agent {name, preset, paper, summary}, environment {id, protocol, options, flags, observation, action},
        training {env_steps, frames, learner_steps, seed, changes}, checkpoint, scores [...],
        versions {trained, written}, config {...}, licence

    scores: every evaluation of this checkpoint that is in the run's directory, by training or by `reverie eval`, each
    with its seed, episodes, mean, and where it is from. spec: of the environment, if it is known already; otherwise it
    is made once. What exports a run adds ``files``: name -> {what, bytes, inputs, outputs}.
    Raises UserError if there is no such run or checkpoint, or its environment cannot be made.
    """
    run_dir = resolve(run_dir)
    chain = load_chain(run_dir)
    config, entry = chain.config, find(chain.config.name)
    made = load_tree(Checkpoints(run_dir).find(checkpoint), ())
    if spec is None:
        spec = env_spec(config)
    env_steps = int(made["env_steps"])
    return {
        "format": FORMAT,
        "name": f"{config.name} on {config.env.id}",
        "agent": {"name": config.name, "preset": config.preset, "paper": entry.paper, "summary": entry.summary},
        "environment": {
            "id": config.env.id,
            "protocol": spec.protocol,
            "options": dict(config.env.options),
            "flags": dict(spec.flags),
            "action_repeat": spec.action_repeat,
            "observation": {key: described(space) for key, space in spec.observation.items()},
            "action": described(spec.action),
            "action_mask": spec.action_mask,
        },
        "training": {
            "env_steps": env_steps,
            "frames": env_steps * spec.action_repeat,
            "learner_steps": made.get("learner_steps"),
            "seed": config.run.seed,
            "changes": chain.lines(),
        },
        "checkpoint": checkpoint,
        "scores": scores(run_dir, env_steps, config.run.seed),
        "versions": {"trained": dict(chain.versions), "written": versions()},
        "config": overrides.to_dict(config),
        "licence": _licence(run_dir),
    }


def described(space: spaces.Space) -> str:
    """A space as rows have it, in a few words."""
    if isinstance(space, spaces.Box):
        low, high = float(space.low.min()), float(space.high.max())
        kind = "image" if space.dtype == "uint8" and len(space.shape) == 3 else "vector"
        return f"{kind}, {space.dtype} {list(space.shape)} in [{low:g}, {high:g}]"
    if isinstance(space, spaces.Discrete):
        return f"index, int64 in 0..{int(space.n) - 1}"
    if isinstance(space, spaces.MultiDiscrete):
        return f"indices, int64 {list(space.shape)}, one of {[int(n) for n in space.nvec.reshape(-1)]} each"
    return str(space)


def scores(run_dir: Path, env_steps: int, seed: int) -> list[dict[str, Any]]:
    """Evaluations of the networks of a run as they were at `env_steps`: by its training first.

    by: ``training``, greedily on fresh environments, with a seed that follows from the run's, `seed`; or the file that
    `reverie eval` wrote. Raises UserError where the run's log is damaged; a file that is no evaluation is left out.
    """
    found = [
        {
            "by": "training",
            "play": "greedy",
            "episodes": record.get("eval/episodes"),
            "mean": record["eval/score"],
            "median": record.get("eval/score_median"),
            "seed": seed,
            "cut": record.get("eval/cut", 0),
        }
        for record in (read_metrics(run_dir) if (run_dir / "metrics.jsonl").exists() else [])
        if "eval/score" in record and record["env_steps"] == env_steps
    ]
    folders = dict.fromkeys((run_dir, results_folder(run_dir)))
    for path in (path for folder in folders for path in sorted(folder.glob("evaluation*.json"))):
        try:
            document = json.loads(path.read_text())
            if document["env_steps"] != env_steps:
                continue
            score = {
                "by": path.name,
                "env": document["env"],
                "play": document.get("play", "greedy"),
                "episodes": document["episodes"],
                "mean": document["score"],
                "std": document["score_std"],
                "median": document["score_median"],
                "seed": document["seed"],
                "cut": document["cut"],
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(score | {key: document[key] for key in ("protocol", "options") if key in document})
    return found


def _licence(run_dir: Path) -> dict[str, str]:
    """Licences of the library and of the networks; those of a model of the zoo are said in its own card."""
    if model_name(run_dir) is None:
        return dict(LICENCE)
    return dict(json.loads((run_dir / "card.json").read_text())["licence"])


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page for people: tables first, the configuration at its end."""
    agent, env, training = card["agent"], card["environment"], card["training"]
    paper = f" ({agent['paper']})" if agent["paper"] else ""
    lines = [
        f"# {card['name']}",
        "",
        f"{agent['name']}, preset `{agent['preset']}`{paper}: {agent['summary']}.",
        "",
        "| | |",
        "|---|---|",
        f"| environment | `{env['id']}`, protocol `{env['protocol']}` |",
        *([f"| options | {_pairs(env['options'])} |"] if env["options"] else []),
        *(f"| observation `{key}` | {words} |" for key, words in env["observation"].items()),
        f"| action | {env['action']}{', of those that a mask allows' if env['action_mask'] else ''} |",
        f"| trained | {_count(training['env_steps'])} env_steps, {_count(training['frames'])} frames, "
        f"{_count(training['learner_steps'])} learner_steps |",
        f"| seed of training | {training['seed']} |",
        f"| trained with | {_pairs(card['versions']['trained'])} |",
        f"| written with | {_pairs(card['versions']['written'])} |",
        f"| licence of the library | {card['licence']['library']} |",
        f"| licence of the networks | {card['licence']['networks']} |",
        "",
        "## Scores",
        "",
        *_scores(card["scores"]),
        *_files(card.get("files", {})),
        *(
            ["", "## What changed on the way", "", *(f"- {line}" for line in training["changes"])]
            * bool(training["changes"])
        ),
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(card["config"], indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _scores(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return ["This checkpoint was not evaluated: `reverie eval RUN` does it, and `reverie export` takes it in."]
    rows = [
        f"| {s['by']} | {s['play']} | {s.get('env', '')} | {_number(s['episodes'])} | {_number(s['mean'])} | "
        f"{_number(s.get('std'))} | {_number(s.get('median'))} | {_number(s.get('seed'))} | {s.get('cut') or ''} |"
        for s in found
    ]
    return [
        "| by | play | environment | episodes | mean | std | median | seed | cut short |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _files(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tables of the files beside the card, with what goes in and comes out."""
    lines = ["", "## Files"] if files else []
    for name, file in files.items():
        lines += ["", f"### {name}", "", f"{file['what']}.", "", "| | name | dtype | shape |", "|---|---|---|---|"]
        for way in ("inputs", "outputs"):
            lines += [
                f"| {way[:-1]} | `{each['name']}` | {each['dtype']} | {_shape(each['shape'])} |"
                for each in file.get(way, [])
            ]
    return lines


def _shape(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _pairs(items: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in items.items())


def _count(number: Any) -> str:
    return "unknown" if number is None else f"{number:,}".replace(",", " ")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
