"""Evaluation of a run: one of its policies plays whole episodes, on its own environment or another that fits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reverie import overrides
from reverie.agents.agent import Play, Seat
from reverie.config import EnvConfig
from reverie.data.rows import Rows, row_spec
from reverie.envs.env import EnvSpec, shut
from reverie.errors import UserError, notice
from reverie.play.dream_score import score_in_dream
from reverie.play.envs import build_world, carried_of
from reverie.play.load import check_play, load
from reverie.play.show import Film, pace
from reverie.play.window import Window
from reverie.report.document import beside, write_whole
from reverie.report.record import to_json
from reverie.report.video import VideoWriter
from reverie.report.words import number
from reverie.run.build import derive, evaluation_streams
from reverie.run.checkpoint import Checkpoints
from reverie.run.roles import Evaluator, cut_line
from reverie.run.saved_config import load_config
from reverie.run.zoo import resolve, results_folder


def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 10,
    checkpoint: str = "latest",
    env: str | None = None,
    settings: Mapping[str, Any] | None = None,
    play: Play = "greedy",
    video: bool = False,
    video_episodes: int = 1,
    window: bool = False,
    in_dream: bool = False,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Scores, lengths (env_steps) and means of `episodes` episodes, also written to a file.

    Of several environments that many are played of each; ``tasks`` has their scores by environment.

    checkpoint: ``latest``, ``best`` or env_steps. env: another environment, with spaces that the networks fit.
    settings: dotted keys of its protocol and options. play: ``greedy``, ``explore`` as in training then, or ``random``.
    video: of the first `video_episodes` episodes of the first stream, see `reverie.play.show`. window: watch it live.
    in_dream: play as many in the agent's own world model too, see `reverie.play.dream_score`, as ``in_dream``.
    out: folder of the file and of the video [the run's; of ``zoo/<name>``: ``zoo-<name>``]. The file is
    ``evaluation.json``; that of anything but a greedy evaluation of the latest policy on its own environment has a name
    that says what it is.
    Raises UserError if there is no such checkpoint, the environment does not fit, there is nothing to show, or in_dream
    is asked of an agent that has no world model that can be played in. What cannot be written takes no score down.
    """
    check_play(play)
    if type(episodes) is not int or episodes < 1:
        raise UserError(f"episodes is {episodes!r}; it must be a whole number, at least 1")
    run_dir, checkpoint = resolve(run_dir), str(checkpoint)
    folder = Path(out) if out else results_folder(run_dir)
    config = load_config(run_dir)
    where = _environment(config.env, env, settings or {})
    if in_dream and where != config.env:
        raise UserError("the dream is of the environment that was trained on: leave --in-dream or --env out")
    fixed = Checkpoints(run_dir).fixed(checkpoint)  # dreams, networks and wrappers are of one
    dreams = {"episodes": episodes, "seed": seed, "device": device, "checkpoint": fixed}
    loaded, carried = load(run_dir, device, checkpoint=fixed), carried_of(run_dir, fixed)
    dreamed = score_in_dream(run_dir, **dreams) if in_dream else None  # type: ignore[arg-type]
    if video and not window:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # environments draw for the film, not for a screen
    limit, streams = config.run.eval_limit, evaluation_streams(config, episodes, where.id)
    world = build_world(replace(config, env=where), streams, carried, drawn=video or window, whole=True)
    try:
        check_fits(loaded.spec, world.spec, loaded.policy.by_task)
        evaluator = Evaluator(world, loaded.policy, episodes, derive(seed, "evaluation"), limit, config.run.nonfinite)
        evaluator.seat = Seat.alone(streams, play, loaded.env_steps)
        name = _name(loaded.env_steps, checkpoint, where if where != config.env else None, play)
        films, path = [], folder / "videos" / f"evaluation_{name or loaded.env_steps}.mp4"
        if video:
            films.append(Film(evaluator, [VideoWriter(path, pace(world))], video_episodes))
        if window:
            films.append(Film(evaluator, [Window(f"{config.name} on {where.id}", pace(world))]))

        def watch(rows: Rows) -> None:
            for film in films:
                film(rows)

        try:
            results = evaluator.run(watch if films else None)
        except BaseException:
            for film in films:
                film.drop()
            raise
        for film in films:
            film.close()
    finally:
        shut(world)
    scores, cut = results["scores"], results["cut"]
    if cut:
        notice(cut_line(cut, len(scores), limit))
    result = {
        "env": where.id,
        "env_steps": loaded.env_steps,
        "episodes": len(scores),
        "cut": cut,
        "score": float(np.mean(scores)),
        "score_std": float(np.std(scores)),
        "score_median": float(np.median(scores)),
        "scores": scores,
        "lengths": results["lengths"],
        "info": results["info"],
        "seed": seed,
    }
    tasks = {task: {"score": float(np.mean(each)), "scores": each} for task, each in results.get("tasks", {}).items()}
    result |= {"tasks": tasks} if tasks else {}
    result |= {"checkpoint": checkpoint} if checkpoint != "latest" else {}
    result |= {"play": play} if play != "greedy" else {}
    if where != config.env:
        result |= {"protocol": world.spec.protocol, "options": where.options}
    if dreamed is not None:
        result["in_dream"] = dreamed
    if video and films[0].whole and path.exists():
        result["video"] = str(path)
    file = folder / (f"evaluation_{name}.json" if name else "evaluation.json")
    _tell_better(file, result)
    _write(file, result)
    return result


def _tell_better(file: Path, result: Mapping[str, Any]) -> None:
    """A notice where an evaluation of the same networks over more episodes is written over."""
    try:
        there = json.loads(file.read_text())
        better = there["env_steps"] == result["env_steps"] and there["episodes"] > result["episodes"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if better:
        notice(
            f"{file} held {there['episodes']} episodes of these networks, with a mean of {number(there.get('score'))}; "
            f"it holds {result['episodes']} now (--out keeps both)"
        )


def check_fits(trained: EnvSpec, other: EnvSpec, by_task: bool = False) -> None:
    """Raise UserError, naming both, if observations or actions of another environment are not what was trained with.

    by_task: whether the policy acts by the number of the task: then the tasks are the same, in the same order.
    """
    if by_task and trained.tasks != other.tasks:
        raise UserError(
            f"{other.id} does not fit a policy that acts by the number of its task: name {','.join(trained.tasks)}, "
            "in that order"
        )
    theirs, ours = (row_spec(spec.observation, spec.action) for spec in (other, trained))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            has, had = (f"{f.dtype} {f.shape}" if f else "nothing" for f in (theirs.get(name), ours.get(name)))
            raise UserError(f"{other.id} does not fit a policy of {trained.id}: its {name} is {has}, not {had}")
    counts = [getattr(spec.action, "n", None) for spec in (other, trained)]
    if counts[0] != counts[1]:
        raise UserError(f"{other.id} has {counts[0]} actions, a policy of {trained.id} has {counts[1]}")


def _environment(trained: EnvConfig, id: str | None, settings: Mapping[str, Any]) -> EnvConfig:
    """The environment to play in. Options go with their protocol, and both with their environment."""
    for key in settings:
        if key != "env.protocol" and not key.startswith("env.options"):
            raise UserError(f"{key} cannot change in an evaluation; env.protocol and env.options can")
    base = trained if id in (None, trained.id) else EnvConfig(str(id), trained.num_envs)
    if settings.get("env.protocol", base.protocol) != base.protocol:
        base = replace(base, options={})
    return overrides.apply(base, {key.removeprefix("env."): value for key, value in settings.items()})


def _name(env_steps: int, checkpoint: str, env: EnvConfig | None, play: Play) -> str:
    """What an evaluation differs in from that of a run's newest policy, as part of a file's name; empty: in nothing."""
    parts = [checkpoint] if checkpoint != "latest" else []
    if env is not None:
        options = [f"{key}-{value}" for key, value in env.options.items()]
        parts += [env.id, *([env.protocol] if env.protocol != "auto" else []), *options]
    parts += [play] if play != "greedy" else []
    text = "_".join([str(env_steps), *parts]) if parts else ""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def _write(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result; one that cannot be written is said, and shown all the same."""
    with beside(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(result, 2) + "\n")
