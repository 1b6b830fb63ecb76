"""Records, the lines of ``metrics.jsonl``: their names, numbers, and how to read them back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.errors import UserError

Record = dict[str, int | float]
"""One log line: metric name -> number."""

FILE = "metrics.jsonl"
WALL_CLOCK = ("time/", "speed/", "timer/")
"""Prefixes of the metrics that differ between two runs of the same seed."""

_NAME = re.compile(r"\w+(/[\w.\-]+)+")


def as_name(text: str) -> str:
    """A name that comes from elsewhere (an observation's key, a measure of an environment) as part of a metric's.

    Slashes stay, what is no letter, digit, dot or hyphen becomes ``_``, and so does an empty part.
    """
    return "/".join(re.sub(r"[^\w.-]", "_", part) or "_" for part in text.split("/"))


def check_name(name: str) -> None:
    """Raise ValueError unless a name is of the form ``group/name``."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"metric names look like group/name, got {name!r}")


def numbers(metrics: Mapping[str, Any]) -> Record:
    """Metrics as Python numbers, in their order; one transfer per device. Raises ValueError as `Logger.log` does."""
    for name, value in metrics.items():
        check_name(name)
        if isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) != 1:
            raise ValueError(f"metric {name} must be one number, got shape {tuple(value.shape)}")
    record: Record = {name: 0.0 for name in metrics}
    tensors = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
    for device in {value.device for value in tensors.values()}:
        on_device = {name: value for name, value in tensors.items() if value.device == device}
        values = torch.stack([value.detach().reshape(()).double() for value in on_device.values()]).tolist()
        for (name, tensor), value in zip(on_device.items(), values, strict=True):
            record[name] = value if tensor.is_floating_point() else int(value)
    for name, value in metrics.items():
        if name not in tensors:
            plain = value.item() if isinstance(value, np.ndarray | np.generic) else value
            record[name] = int(plain) if isinstance(plain, bool | int) else float(plain)
    return record


def read_metrics(run_dir: str | Path) -> list[Record]:
    """All records of a run, oldest first. A last line that was cut short is left out.

    Raises UserError if there is no such file, or if another line than the last is damaged.
    """
    path = Path(run_dir) / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise UserError(f"{run_dir} has no {FILE}; is it a run directory?") from error
    records: list[Record] = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is a cut line, or nothing
        if line.strip():  # what somebody blanked out, as `decode` advises
            records.append(decode(line, path, number))
    return records


def comparable(record: Record) -> Record:
    """A record without what depends on the clock: equal in two runs of one seed."""
    return {name: value for name, value in record.items() if not name.startswith(WALL_CLOCK)}


def encode(value: int | float) -> int | float | str:
    """A number as JSON has it: non-finite ones are text."""
    return value if math.isfinite(value) else str(float(value))


def to_json(document: Any, indent: int | None = None) -> str:
    """A document of dicts, lists, numbers and text as JSON.

    Numbers that are not finite are text, as `encode` has them, and so is what JSON does not know (paths).
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        value = value.item() if isinstance(value, np.generic) else value
        return encode(value) if isinstance(value, float) else value

    return json.dumps(plain(document), indent=indent, default=str, allow_nan=False)


def decode(line: bytes, path: Path, number: int | None) -> Record:
    """A line of `path` as a record. Raises UserError, naming the line, if it is none."""
    where = f"line {number}" if number else "the last line"
    try:
        record = json.loads(line)
        found = {name: float(value) if isinstance(value, str) else value for name, value in record.items()}
        if odd := [name for name, value in found.items() if not isinstance(value, int | float)]:
            raise ValueError(f"{odd[0]} is no number")
        return found
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: {where} is not a record ({error}); write a space over each of its characters: a run goes on with "
            "a log of the length that it had"
        ) from error
