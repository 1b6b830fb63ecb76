"""Configuration from the words of a command line, and whether a directory holds the run that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reverie import overrides
from reverie.config import Config, EnvConfig
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run.saved_config import load_config


def configure(
    agent: str, preset: str | None, env: str | None, words: Sequence[str], short: Mapping[str, str | None]
) -> Config:
    """Configuration of the preset with the short options (of ``run``) and then all other overrides set.

    Presets see the environment with the protocol and the options that are given. A length in frames replaces the
    preset's, whichever unit that one has.
    Raises UserError for unknown names and keys, and for values that do not fit.
    """
    settings: dict[str, Any] = {f"run.{name}": value for name, value in short.items() if value is not None}
    settings |= overrides.parse(words)
    id = settings.pop("env.id", None) or env
    of_env = [key for key in settings if key == "env.protocol" or key.startswith("env.options")]
    env_settings = {key: settings[key] for key in of_env}
    env_config = overrides.apply(_PresetView(), env_settings).env
    config = make_config(agent, preset, id, protocol=env_config.protocol, options=env_config.options)
    if "run.frames" in settings:
        config = replace(config, run=replace(config.run, env_steps=None))
    return overrides.apply(config, settings)


@dataclass(frozen=True)
class _PresetView:
    """Part of the command line that a preset may know, under the keys that it has there."""

    env: EnvConfig = field(default_factory=EnvConfig)


def check_same(config: Config, run_dir: Path) -> None:
    """Raise UserError, naming what differs, if the run in `run_dir` has another configuration."""
    saved = load_config(run_dir)
    if saved == config:
        return
    in_run, in_config = overrides.flatten(saved), overrides.flatten(config)
    changed = [key for key in {**in_run, **in_config} if in_run.get(key) != in_config.get(key)]
    differences = ", ".join(f"{key} is {in_run.get(key)!r} there, {in_config.get(key)!r} here" for key in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise UserError(
        f"{run_dir} holds another run ({differences}{more}); go on with that by: reverie resume {run_dir}, "
        "or name another directory"
    )
