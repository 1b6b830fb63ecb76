"""Configuration from the words of a command line, and whether a directory holds the run that it describes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import overrides
from reverie.config import POPULATION, Config, EnvConfig, with_settings
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run.chain import differences
from reverie.run.config_file import read_config_file
from reverie.run.fixed import check_change
from reverie.run.saved_config import load_config


def configure(
    agent: str | None,
    preset: str | None,
    env: str | None,
    words: Sequence[str],
    short: Mapping[str, str | None],
    file: Path | None = None,
) -> Config:
    """Configuration of the preset with a file's keys, then the short options (of ``run``) and all other overrides set.

    Presets see the environment with the protocol and the options that are given, and are those of ``agent.base``, if
    the agent has one. A length in frames replaces the
    preset's, whichever unit that one has. file: YAML or JSON, see `reverie.run.config_file`; agent, preset and
    environment may be named there.
    Raises UserError for unknown names and keys, and for values that do not fit.
    """
    settings = short_settings(short, words)
    for key, word in (("name", "the agent is the first word after train"), ("preset", "say --preset NAME")):
        if key in settings:
            raise UserError(f"{key} is no setting: {word}")
    given = read_config_file(file) if file is not None else {}
    agent = _same(agent, given.pop("name", None), file)
    in_file = given.pop("preset", None)
    if None not in (preset, in_file) and preset != in_file:
        raise UserError(f"--config {file} is of the preset {in_file}, not of {preset}; leave one of them out")
    preset = preset or in_file
    env_in_file = overrides.dotted(_PresetView(), {key: value for key, value in given.items() if key.startswith("env")})
    if env is not None and "env.id" in settings:
        raise UserError("--env and env.id are both given; give one of them")
    id = settings.pop("env.id", None) or env or env_in_file.get("env.id")
    env_config = _PresetView()
    for source in (env_in_file, settings):
        of_env = [key for key in source if key == "env.protocol" or key.startswith("env.options")]
        env_config = overrides.apply(env_config, {key: source[key] for key in of_env})
    chosen = env_config.env
    base = settings.get("agent.base", _base(given))
    config = make_config(agent, preset, id, protocol=chosen.protocol, options=chosen.options, base=base)
    if given:
        try:
            config = with_settings(config, overrides.dotted(config, given) | {"env.id": config.env.id})
        except UserError as error:
            raise UserError(f"--config {file}: {error}") from error
    return with_settings(config, settings)


def _base(given: Mapping[str, Any]) -> Any:
    """The base that a file names, as ``agent.base`` or within ``agent``; None if it names none."""
    group = given.get("agent")
    return given.get("agent.base", group.get("base") if isinstance(group, Mapping) else None)


def _same(agent: str | None, in_file: Any, file: Path | None) -> str:
    """The agent that is named, on the command line or in the file. Raises UserError if none is, or two are."""
    if agent is None and in_file is None:
        raise UserError("Missing argument 'AGENT'; see `reverie list agents`")
    if agent is not None and in_file is not None and agent != in_file:
        raise UserError(f"--config {file} is of {in_file}, not of {agent}; leave one of them out")
    return str(agent if agent is not None else in_file)


def short_settings(short: Mapping[str, str | None], words: Sequence[str]) -> dict[str, Any]:
    """Dotted keys of short options (of ``run``) and of overrides. Raises UserError for two lengths, and for slips."""
    if short.get("frames") is not None and short.get("env_steps") is not None:
        raise UserError("--frames and --env_steps both say how long the run is; give one of them")
    dotted = overrides.parse(words)
    for name, value in short.items():
        if value is not None and f"run.{name}" in dotted:
            raise UserError(f"--{name} and run.{name} are both given; give one of them")
    settings = {f"run.{name}": value for name, value in short.items() if value is not None} | dotted
    lengths = [settings.get(key) for key in ("run.frames", "run.env_steps")]
    if None not in lengths and "none" not in [str(length).strip().lower() for length in lengths]:
        raise UserError("run.frames and run.env_steps both say how long the run is; give one of them")
    return settings


@dataclass(frozen=True)
class _PresetView:
    """Part of the command line that a preset may know, under the keys that it has there."""

    env: EnvConfig = field(default_factory=EnvConfig)


def check_same(config: Config, run_dir: Path) -> None:
    """Raise UserError if the run in `run_dir` has another configuration: what differs, and the command that goes on."""
    population = config.population.size > 0
    saved = load_config(run_dir, POPULATION) if population else load_config(run_dir)
    if saved == config:
        return
    there = shlex.quote(str(run_dir))
    changed = differences(saved, config)
    named = [f"{key} is {old!r} there, {new!r} here" for key, (old, new) in changed.items()]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    try:
        if population:
            raise UserError("a population goes on as it is")
        check_change(saved, config)
        words = shlex.join(f"--{key}={overrides.text(overrides.flatten(config)[key])}" for key in changed)
        ways = f"go on with it as you say here by: reverie resume {there} {words}, as it is by: reverie resume {there}"
    except (UserError, KeyError):
        ways = f"go on with it as it is by: reverie resume {there}"
        ways += "" if population else f", or begin with its networks by: --init {there}"
    raise UserError(f"{run_dir} holds another run ({', '.join(named[:3])}{more}); {ways}, or name another --logdir")
