"""Configurations as files of a user's own: YAML or JSON, whole or in part, nested or by dotted keys.

::

    agent: {gamma: 0.95, opt: {lr: 3e-4}}        agent.gamma: 0.95
    run: {env_steps: 50000}                      agent.opt.lr: 3e-4        the same

``name``, ``preset`` and the environment are in it too, if it is whole. The ``config.json`` of a run is such a file.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.keys import Group, groups

SUFFIXES = (".json", ".yaml", ".yml")


def read_config_file(path: Path) -> dict[str, Any]:
    """What a file says, as it stands there. Raises UserError if it cannot be read or is no mapping of keys."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--config {path}: a configuration is read from {', '.join(SUFFIXES)}")
    try:
        text = path.read_text()
        data = json.loads(text, object_pairs_hook=_once) if path.suffix == ".json" else yaml.load(text, _Once)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"--config {path} cannot be read: {reason}") from error
    if data is None:
        return {}
    if isinstance(data, dict) and isinstance(data.get("config"), dict):
        data = data["config"]  # of a run directory
    if not (isinstance(data, dict) and all(isinstance(key, str) for key in data)):
        raise UserError(f"--config {path} should hold keys and values, such as agent.gamma: 0.95")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that is there twice."""
    _check_once([key for key, _ in pairs])
    return dict(pairs)


class _Once(yaml.SafeLoader):
    """YAML in which no mapping has a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping. Raises ValueError for a key that is there twice."""
        _check_once([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


def _check_once(keys: Sequence[str]) -> None:
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice; give it once")


def as_json(config: Config) -> str:
    """The whole configuration, nested, as JSON."""
    return json.dumps(overrides.to_dict(config), indent=2)


def as_yaml(config: Config) -> str:
    """The whole configuration, nested, as YAML with what each key means in a comment."""
    lines: list[str] = []
    plain = overrides.to_dict(config)
    for group in groups(config):
        *above, name = group.name.split(".")
        if name:
            lines += [*([] if above else [""]), f"{'  ' * len(above)}{name}:"]
        lines += _yaml_keys(group, _below(plain, group.name), "  " * (len(above) + bool(name)))
    return "\n".join(lines)


def _yaml_keys(group: Group, plain: Any, indent: str) -> list[str]:
    """Lines of the keys of one group, their meanings above them."""
    lines = []
    for number, key in enumerate(group.keys):
        same = number and key.meaning == group.keys[number - 1].meaning
        if key.meaning and not same:
            lines += textwrap.wrap(
                key.meaning, 118 - len(indent), initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        name = key.name.rpartition(".")[2]
        lines.append(f"{indent}{name}: {json.dumps(plain[name])}")
    return lines


def _below(plain: Any, name: str) -> Any:
    for part in filter(None, name.split(".")):
        plain = plain[part]
    return plain
