"""Chunk files: consecutive rows of one stream in one file that describes itself.

::

    8 bytes   magic "REVCHUNK"
    4 + 4     little-endian: length of the header, its CRC-32
    header    JSON: format, stream, start, length, version, bytes (raw), stored (compressed), checksum (BLAKE2b of the
              stored bytes), arrays: [{name, shape, dtype, offset}], where a name is rows/<field>, peek/<field> or
              states/<name>
    payload   one zstandard frame: the raw arrays one after another

A file is written under a temporary name, flushed to the disk and renamed, so it is whole or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from reverie.data.sequences import Chunk
from reverie.errors import UserError

MAGIC = b"REVCHUNK"
FORMAT = 1
SUFFIX = ".chunk"
TEMPORARY = ".chunk.tmp"
_PREFIX = struct.Struct("<8sII")


def chunk_path(folder: Path, stream: int, start: int) -> Path:
    """Path of the chunk of a stream that begins at absolute index `start`; names sort by stream and time."""
    return folder / f"{stream:05d}-{start:012d}{SUFFIX}"


def write_chunk(path: Path, chunk: Chunk, level: int = 3) -> int:
    """Size in bytes of the file that a chunk is durably written to. level: zstandard's, 1 to 22.

    Raises UserError naming the path and the bytes if the disk is full or cannot be written; nothing is left behind.
    """
    arrays, pieces, offset = [], [], 0
    groups = (("rows", chunk.rows), ("peek", chunk.peek or {}), ("states", chunk.states or {}))
    for group, fields in groups:
        for name, value in fields.items():
            value = np.asarray(value)
            arrays.append({"name": f"{group}/{name}", "shape": value.shape, "dtype": value.dtype.str, "offset": offset})
            pieces.append(value.tobytes())
            offset += value.nbytes
    payload = zstandard.ZstdCompressor(level=level).compress(b"".join(pieces))
    header = {
        "format": FORMAT,
        "stream": int(chunk.stream),
        "start": int(chunk.start),
        "length": len(chunk),
        "version": int(chunk.version),
        "bytes": offset,
        "stored": len(payload),
        "checksum": _checksum(payload),
        "arrays": arrays,
    }
    text = json.dumps(header).encode()
    size = _PREFIX.size + len(text) + len(payload)
    _write_durably(path, [_PREFIX.pack(MAGIC, len(text), zlib.crc32(text)), text, payload], size)
    return size


def _write_durably(path: Path, pieces: Iterable[bytes], size: int) -> None:
    temporary = path.with_name(path.name.removesuffix(SUFFIX) + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"cannot write {path} ({size} bytes): {error.strerror}; earlier files are intact: "
            f"free space or permissions there and run the same command again"
        ) from error


def sync(path: Path) -> None:
    """Make a file's contents, or renames and removals in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a chunk file, checked. Raises UserError if it is not one, is damaged, or has another format."""
    with _open(path) as file:
        return _header(path, file)


def read_chunk(path: Path) -> Chunk:
    """The chunk in a file, its checksum checked.

    Raises UserError naming the file if it is missing, damaged, cut short, or written by another version.
    """
    with _open(path) as file:
        header = _header(path, file)
        payload = file.read()
    if len(payload) != header["stored"]:
        raise _damaged(path, f"it is cut short: {len(payload)} of {header['stored']} bytes")
    if _checksum(payload) != header["checksum"]:
        raise _damaged(path, "its checksum does not match")
    raw = zstandard.ZstdDecompressor().decompress(payload, max_output_size=header["bytes"])
    groups: dict[str, dict[str, np.ndarray]] = {"rows": {}, "peek": {}, "states": {}}
    for array in header["arrays"]:
        group, name = array["name"].split("/", 1)
        count = int(np.prod(array["shape"], dtype=np.int64))
        flat = np.frombuffer(raw, np.dtype(array["dtype"]), count, array["offset"])
        groups[group][name] = flat.reshape(array["shape"]).copy()
    return Chunk(
        stream=header["stream"],
        start=header["start"],
        rows=groups["rows"],
        peek=groups["peek"] or None,
        states=groups["states"] or None,
        version=header["version"],
    )


def _open(path: Path) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {_FIX}") from error


def _header(path: Path, file: Any) -> dict[str, Any]:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise _damaged(path, "it does not begin like a chunk file")
    _, length, check = _PREFIX.unpack(prefix)
    text = file.read(length)
    if len(text) != length or zlib.crc32(text) != check:
        raise _damaged(path, "its header is incomplete or altered")
    header = json.loads(text)
    if header["format"] != FORMAT:
        raise UserError(
            f"{path} has chunk format {header['format']}, this version reads {FORMAT}: "
            f"read it with the version of the package that wrote it"
        )
    return header


_FIX = "restore it from a copy, or start a new run directory"


def _damaged(path: Path, how: str) -> UserError:
    return UserError(f"{path} is damaged: {how}; {_FIX}")


def _checksum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
