"""From words of a command line to a configuration, and whether a directory holds the run that it describes."""

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
    """The preset's configuration with the short options (of ``run``) and then all other overrides set.

    Presets see the environment with the protocol and the options that are given. A length in frames replaces the
    preset's, whichever unit that one has.
    Raises UserError for unknown names and keys, and for values that do not fit.
    """
    given: dict[str, Any] = {f"run.{name}": value for name, value in short.items() if value is not None}
    given |= overrides.parse(words)
    id = given.pop("env.id", None) or env
    seen = {key: value for key, value in given.items() if key == "env.protocol" or key.startswith("env.options")}
    asked = overrides.apply(_Seen(), seen).env
    config = make_config(agent, preset, id, protocol=asked.protocol, options=asked.options)
    if "run.frames" in given:
        config = replace(config, run=replace(config.run, env_steps=None))
    return overrides.apply(config, given)


@dataclass(frozen=True)
class _Seen:
    """What a preset may know of the command line, under the keys that it has there."""

    env: EnvConfig = field(default_factory=EnvConfig)


def check_same(config: Config, run_dir: Path) -> None:
    """Raise UserError, naming what differs, if the run in `run_dir` has another configuration."""
    saved = load_config(run_dir)
    if saved == config:
        return
    there, here = overrides.flatten(saved), overrides.flatten(config)
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    shown = ", ".join(f"{key} is {there.get(key)!r} there, {here.get(key)!r} here" for key in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise UserError(
        f"{run_dir} holds another run ({shown}{more}); go on with that by: reverie resume {run_dir}, "
        "or name another directory"
    )
