"""Messages between page and server: commands in as JSON, moments out as JSON with arrays behind it.

::

    4 bytes   little-endian: length of the JSON
    JSON      {"kind": "view", ..., "parts": [{"name", "shape", "at"}]}
    bytes     the parts, uint8, one after another; "at" counts from the first of them
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.errors import UserError
from reverie.play.page.dreams import error, spread
from reverie.play.page.session import DREAMS, HORIZON, SPEED, Session
from reverie.report.captions import picture

SIZE = 4096
"""bytes of a command, at most"""
NUMBERS = 64
"""numbers of an observation that are shown"""
WHEELS = ("person", "agent", "recorded")
COMMANDS: dict[str, dict[str, Any]] = {
    "play": {},
    "pause": {},
    "step": {},
    "back": {"by": (1, 10_000)},
    "to": {"position": (0, 2**53)},
    "fresh": {"seed": (0, 2**53)},
    "replay": {"row": (0, 2**53)},
    "here": {},
    "hold": {"action": None, "step": bool},
    "record": {"on": bool},
    "set": {
        "wheel": WHEELS,
        "speed": (0.5, SPEED),
        "horizon": (1, HORIZON),
        "likely": bool,
        "dreams": (1, DREAMS),
        "along": bool,
        "patient": bool,
    },
    "ack": {"frame": (0, 2**53)},
}
"""Commands and their fields: a range of numbers, names, or a truth value; None: whatever the action space says."""
WHOLE = {"by", "position", "seed", "row", "horizon", "dreams", "frame"}


def parse(text: str | bytes) -> dict[str, Any]:
    """A command, checked but for actions: {"do": name, field: value, ...}. Raises UserError that says what is wrong."""
    try:
        command = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("this message is no JSON") from None
    if not isinstance(command, dict) or not isinstance(command.get("do"), str) or command["do"] not in COMMANDS:
        raise UserError(f'a message is {{"do": ...}} with one of {", ".join(COMMANDS)}')
    fields = COMMANDS[command["do"]]
    for name, value in command.items():
        if name == "do":
            continue
        if name not in fields:
            raise UserError(f"{command['do']} takes {', '.join(fields) or 'nothing else'}")
        _check(name, value, fields[name])
    return command


def _check(name: str, value: Any, allowed: Any) -> None:
    if allowed is None:
        return
    if allowed is bool:
        if type(value) is not bool:
            raise UserError(f"{name} is true or false")
    elif isinstance(allowed[0], str):
        if value not in allowed:
            raise UserError(f"{name} is one of {', '.join(allowed)}")
    else:
        low, high = allowed
        kinds = (int,) if name in WHOLE else (int, float)
        if type(value) not in kinds or not low <= value <= high:
            raise UserError(f"{name} is a {'whole ' if name in WHOLE else ''}number from {low} to {high}")


def pack(document: dict[str, Any], parts: dict[str, np.ndarray] | None = None) -> bytes:
    """Bytes of a message. parts: uint8 arrays by name."""
    listing, at, raw = [], 0, []
    for name, value in (parts or {}).items():
        if value.dtype != np.uint8:
            raise ValueError(f"parts are uint8, {name} is {value.dtype}")
        listing.append({"name": name, "shape": value.shape, "at": at})
        raw.append(np.ascontiguousarray(value).tobytes())
        at += value.nbytes
    text = json.dumps(document | {"parts": listing}, default=_plain, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *raw])


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Inverse of `pack`."""
    (length,) = struct.unpack_from("<I", message)
    document = json.loads(message[4 : 4 + length])
    parts = {}
    for part in document.pop("parts"):
        begin = 4 + length + part["at"]
        count = int(np.prod(part["shape"], dtype=np.int64))
        parts[part["name"]] = np.frombuffer(message, np.uint8, count, begin).reshape(part["shape"])
    return document, parts


def failure(text: str) -> bytes:
    """Message that says what went wrong."""
    return pack({"kind": "error", "text": text})


def greeting(session: Session) -> bytes:
    """First message of a visit: what is played."""
    limits = {"dreams": DREAMS, "speed": SPEED, "horizon": HORIZON}
    return pack(
        {"kind": "hello", "recordable": session.recorder is not None, "limits": limits, **session.subject.describe()}
    )


def view(session: Session, frame: int) -> bytes:
    """The moment that a session is at. frame: its number, which the page acknowledges."""
    now, settings, spec = session.path.now, session.settings, session.subject.spec
    oldest, newest = session.path.range
    rows, dreamed, recorder = now.rows, now.dreamed, session.recorder
    parts = {f"world/{key}": picture(rows[OBS + key][0]) for key in session.subject.images}
    if now.picture is not None:
        parts["world.picture"] = now.picture
    parts |= now.thought.said.pictures
    document: dict[str, Any] = {
        "kind": "view",
        "frame": frame,
        "position": session.path.position,
        "oldest": oldest,
        "newest": newest,
        "running": session.running,
        "said": session.said,
        "settings": vars(settings),
        "recording": None if recorder is None else {"on": recorder.on, "rows": recorder.rows},
        "action": None if now.action is None else now.action[0].tolist(),
        "by": now.by,
        "agent": now.thought.action[0].tolist(),
        "threshold": session.threshold,
        "world": {
            "moved": now.moved,
            "left": now.left,
            "step": now.place.count,
            "episode": now.place.episode,
            "reward": float(rows["reward"][0]),
            "score": now.score,
            "first": bool(rows["is_first"][0]),
            "last": bool(rows["is_last"][0]),
            "terminal": bool(rows["is_terminal"][0]),
            "numbers": numbers(rows, session.subject.images),
            "mask": rows["obs.action_mask"][0].tolist() if spec.action_mask else None,
            "said": now.thought.said.numbers,
        },
        "dream": None,
    }
    if dreamed is not None:
        images = {
            f"dream/{key}": [picture(frame) for frame in dreamed.rows[OBS + key]] for key in session.subject.images
        }
        parts |= {name: np.stack(frames) for name, frames in images.items()} | dreamed.pictures
        apart, between = spread(dreamed.rows, spec)
        if between is not None:
            parts["spread"] = between
        document["dream"] = {
            "step": dreamed.step,
            "apart": now.apart,
            "over": dreamed.over.tolist(),
            "done": dreamed.done.tolist(),
            "returns": dreamed.returns.tolist(),
            "false": now.false.tolist(),
            "spread": apart,
            "error": None if now.apart else error(dreamed.rows, rows, spec),
            "numbers": numbers(dreamed.rows, session.subject.images),
            "said": dreamed.said.numbers,
        }
    return pack(_finite(document), parts)


def numbers(rows: Rows, images: list[str]) -> dict[str, list[float]]:
    """Observations of the first row that are no images, key -> at most `NUMBERS` numbers."""
    return {
        name.removeprefix(OBS): np.asarray(value[0], np.float64).reshape(-1)[:NUMBERS].tolist()
        for name, value in rows.items()
        if name.startswith(OBS) and name.removeprefix(OBS) not in images
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: text in their place."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not for JSON")
