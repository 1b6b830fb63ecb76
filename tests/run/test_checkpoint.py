"""Checkpoints: what goes in comes out, damage and full disks are one line, and a crash leaves the one before."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reverie
from reverie.errors import UserError
from reverie.run import tree as run_tree
from reverie.run.checkpoint import Checkpoints
from reverie.run.tree import FORMAT, load_tree, save_tree

DTYPES = [torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool, torch.float16, torch.bfloat16]
DTYPES += [torch.float32, torch.float64]


def same(left: Any, right: Any) -> bool:
    """Whether two trees are equal bit for bit, in types and dtypes too."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right)


def tree() -> dict[str, Any]:
    """Every kind of leaf."""
    values = torch.tensor([[0, 1, 2], [3, 4, 5]])
    return {
        "tensors": {str(dtype): values.to(dtype) for dtype in DTYPES},
        "scalar": torch.tensor(2.5),
        "empty": {"tensor": torch.zeros(0, 3), "array": np.zeros((2, 0), np.uint8), "dict": {}, "list": []},
        "arrays": {
            kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("uint8", "bool", "int64", "float16", "f8")
        },
        "zero_d": np.array(7, np.int64),
        "plain": {"int": -3, "big": 2**80, "float": 0.1, "text": "dream\nline é", "yes": True, "none": None},
        "nested": [1, [torch.tensor([1, 2]), [None, {"deep": np.array([True, False])}]], "x"],
        "a/b": np.array([1]),
        "": torch.tensor([9]),
    }


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = tree()
    save_tree(tmp_path / "c", saved)
    assert same(load_tree(tmp_path / "c"), tree())
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["arrays.safetensors", "state.json"]


def test_nothing_of_a_tree_outlives_its_writing_and_reading(tmp_path: Path) -> None:
    """Copies are gone at once, not when Python next looks for cycles: a run writes many, each larger than the last."""

    def there() -> int:
        return sum(type(each) is torch.Tensor and each.shape == (12_345,) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        save_tree(tmp_path / "c", {"array": np.ones(12_345), "tensors": [torch.ones(12_345)]})
        assert there() == 0
        loaded = load_tree(tmp_path / "c")
        read = weakref.ref(loaded["tensors"][0])
        assert read() is not None
        del loaded
        assert read() is None
    finally:
        gc.enable()


def test_what_comes_back_lies_where_new_tensors_lie(tmp_path: Path) -> None:
    """At another offset, products of some processors end in other bits: a run would go on otherwise."""
    save_tree(tmp_path / "c", {str(size): np.ones(size, np.float32) for size in range(1, 9)} | {"t": torch.ones(3)})
    loaded = load_tree(tmp_path / "c")
    assert loaded.pop("t").data_ptr() % 64 == 0
    assert [array.ctypes.data % 64 for array in loaded.values()] == [0] * 8


def test_views_numpy_scalars_and_tuples_become_what_they_stand_for(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    parameter = torch.nn.Parameter(base.clone())
    saved = {
        "shared": [base, base[::2], base.view(2, 3).T],
        "parameter": parameter,
        "reversed": np.arange(4)[::-1],
        "numpy": [np.float32(0.5), np.int64(3), np.bool_(True)],
        "tuple": (1, 2),
    }
    save_tree(tmp_path / "c", saved)
    loaded = load_tree(tmp_path / "c")
    assert same(loaded["shared"], [base, base[::2].clone(), base.view(2, 3).T.contiguous()])
    assert same(loaded["parameter"], base)
    assert same(loaded["reversed"], np.array([3, 2, 1, 0]))
    assert same(loaded["numpy"], [0.5, 3, True])
    assert loaded["tuple"] == [1, 2]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"a": {"b": object()}}, "cannot hold object at 'a/b'"),
        ({"a": [1, {2, 3}]}, "cannot hold set at 'a/1'"),
        ({"a": b"bytes"}, "cannot hold bytes"),
        ({"a": Path("x")}, "Path"),
        ({"a": {1: 2}}, "keys of a checkpoint are strings"),
        ({"a": {"$tensor": 1}}, "other than \\$tensor"),
    ],
)
def test_other_leaves_and_keys_are_refused(tmp_path: Path, saved: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save_tree(tmp_path / "c", saved)
    assert not (tmp_path / "c").exists()


def test_two_arrays_cannot_have_one_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two arrays.*'a/b'"):
        save_tree(tmp_path / "c", {"a/b": np.zeros(1), "a": {"b": np.ones(1)}})


def cut(name: str, keep: float) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def flip(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-3] ^= 1
        (folder / name).write_bytes(bytes(data))

    return damage


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


DAMAGES = {
    "arrays cut in half": cut("arrays.safetensors", 0.5),
    "arrays cut by a byte": cut("arrays.safetensors", 0.999),
    "arrays empty": cut("arrays.safetensors", 0.0),
    "one bit of the arrays": flip("arrays.safetensors"),
    "arrays garbled": write("arrays.safetensors", b"\xff" * 500),
    "arrays missing": remove("arrays.safetensors"),
    "state cut": cut("state.json", 0.5),
    "state empty": cut("state.json", 0.0),
    "state not text": write("state.json", b"\xff\xfe\x00garbage"),
    "state a list": write("state.json", b"[]"),
    "state null": write("state.json", b"null"),
    "state without a tree": write("state.json", b'{"format": %d}' % FORMAT),
    "another array is named": write("state.json", b'{"format": %d, "tree": {"a": {"$tensor": "elsewhere"}}}' % FORMAT),
    "state missing": remove("state.json"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damage_is_one_line_that_names_the_folder_and_the_fix(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"at": 10, "a": np.zeros(3)})
    checkpoints.save(20, {"at": 20, "a": np.zeros(3)})
    damage(tmp_path / "checkpoints" / "20")
    with pytest.raises(UserError) as caught:
        checkpoints.load()
    message = str(caught.value)
    assert str(tmp_path / "checkpoints" / "20") in message
    assert "delete that folder to go on from the one before it" in message
    assert "\n" not in message
    # And the fix is one.
    for path in (tmp_path / "checkpoints" / "20").iterdir():
        path.unlink()
    (tmp_path / "checkpoints" / "20").rmdir()
    assert checkpoints.load()["at"] == 10


def test_the_only_checkpoint_is_not_to_be_deleted(tmp_path: Path) -> None:
    """Without it the run would begin again, over its own rows and its log."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.check_kept()  # there has been none
    checkpoints.save(20, {"at": 20})
    (tmp_path / "checkpoints" / "20" / "state.json").unlink()
    with pytest.raises(UserError, match=r"20 is unreadable .*; restore it from a copy, or begin another run"):
        checkpoints.load()
    shutil.rmtree(tmp_path / "checkpoints" / "20")
    with pytest.raises(UserError, match="had checkpoints, and none is left to go on from: restore one from a copy"):
        checkpoints.check_kept()


def test_another_format_is_named(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", {"a": 1})
    document = json.loads((tmp_path / "c" / "state.json").read_text())
    (tmp_path / "c" / "state.json").write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(UserError, match=f"has format 99, this version reads {FORMAT}"):
        load_tree(tmp_path / "c")


@pytest.mark.parametrize("pointer", [None, b"", b"30", b"nonsense", b"\xff\xff", b"../20"])
def test_without_a_good_pointer_the_newest_folder_counts(tmp_path: Path, pointer: bytes | None) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"at": 10})
    checkpoints.save(20, {"at": 20})
    latest = tmp_path / "checkpoints" / "latest"
    assert latest.read_text() == "20"
    if pointer is None:
        latest.unlink()
    else:
        latest.write_bytes(pointer)
    assert checkpoints.load() == {"at": 20}


def test_the_pointer_counts_where_it_is_good(tmp_path: Path) -> None:
    """A process killed between the two renames of a save leaves a newer folder; the pointer is what was promised."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"at": 10})
    checkpoints.save(20, {"at": 20})
    (tmp_path / "checkpoints" / "latest").write_text("10")
    assert checkpoints.load() == {"at": 10}


def test_no_checkpoint_is_a_line(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).latest() is None
    with pytest.raises(UserError, match="has no checkpoint yet"):
        Checkpoints(tmp_path).load()
    with pytest.raises(UserError, match="nowhere is not there; name the directory of a run"):
        Checkpoints(tmp_path / "nowhere").find("latest")
    (tmp_path / "population.json").touch()
    with pytest.raises(UserError, match="is a population, not a run; name one of its members"):
        Checkpoints(tmp_path).find("latest")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for at in (5, 10, 100, 1000, 90_000):
        checkpoints.save(at, {"at": at})
    assert checkpoints.names() == [100, 1000, 90_000]
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["100", "1000", "90000", "latest"]
    with pytest.raises(UserError, match="at least 1 checkpoint, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_checkpoints_of_an_abandoned_future_do_not_crowd_out_new_ones(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(500, {"at": 500})
    Checkpoints(tmp_path, keep=1).save(20, {"at": 20})
    assert Checkpoints(tmp_path).names() == [20]
    assert Checkpoints(tmp_path).load() == {"at": 20}


class Crash(BaseException):
    """The process ends here: no handler may tidy up."""


MOMENTS = [("save_file", 0), ("dumps", 0), *(("write_text", n) for n in range(2))]
MOMENTS += [*(("fsync", n) for n in range(5)), *(("rename", n) for n in range(2))]


@pytest.mark.parametrize(("call", "nth"), MOMENTS)
@pytest.mark.parametrize("at", [30, 20], ids=["new", "again"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Crash()], ids=["full", "killed"])
def test_a_save_that_fails_anywhere_leaves_a_checkpoint_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, at: int, error: BaseException
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"at": 10, "a": np.arange(4)})
    checkpoints.save(20, {"at": 20, "a": np.arange(4)})
    before = files(checkpoints.folder)
    owner: Any = {"save_file": run_tree, "dumps": json, "fsync": os}.get(call, Path)
    real, count = getattr(owner, call), itertools.count()

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(count) == nth:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, call, fail)
    with pytest.raises((UserError, Crash)) as caught:
        checkpoints.save(at, {"at": at, "a": np.arange(4)})
    monkeypatch.undo()
    if isinstance(error, OSError):
        message = str(caught.value)
        assert f"checkpoints/{at}: no space left on the disk" in message
        assert "run the same command again" in message
        assert "\n" not in message
    after = files(checkpoints.folder)
    loaded = Checkpoints(tmp_path).load()
    if at == 30 and (call, nth) != ("fsync", 4):  # that one is after the last rename
        assert loaded["at"] == 20
        assert {name: after.get(name) for name in before} == before
    else:
        assert loaded["at"] == at
        assert all(after[name] == data for name, data in before.items() if name.startswith("10/"))
    # Going on as usual leaves nothing behind.
    Checkpoints(tmp_path).save(40, {"at": 40})
    Checkpoints(tmp_path).save(50, {"at": 50})
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["40", "50", "latest"]


def test_a_checkpoint_that_stepped_aside_is_kept_as_long_as_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(20, {"at": 20, "first": True})
    real, count = Path.rename, itertools.count()

    def fail(self: Path, target: Path) -> Path:
        if next(count) == 1:
            raise Crash
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(Crash):
        checkpoints.save(20, {"at": 20})
    monkeypatch.undo()
    checkpoints.save(30, {"at": 30})
    assert checkpoints.names() == [20, 30]
    shutil.rmtree(checkpoints.folder / "30")
    assert checkpoints.load() == {"at": 20, "first": True}
    checkpoints.save(20, {"at": 20})
    assert checkpoints.load() == {"at": 20}
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["20", "latest"]


def test_a_pickle_is_never_read_or_written() -> None:
    root = Path(reverie.__file__).parent
    sources = {path: path.read_text() for path in root.rglob("*.py")}
    assert len(sources) > 20
    used = re.compile(
        r"^\s*(import|from)\s+(c?pickle|dill|cloudpickle|joblib|shelve|marshal)\b|torch\.(load|save)\(", re.M
    )
    found = [str(path.relative_to(root)) for path, text in sources.items() if used.search(text)]
    assert found == []
    allowed = re.compile(r"allow_pickle\s*=\s*True")
    assert [str(path) for path, text in sources.items() if allowed.search(text)] == []


def test_what_is_not_there_is_not_offered(tmp_path: Path) -> None:
    """Early in a run the best may be kept before there is a latest."""
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no checkpoint 'latest'; it has best$"):
        checkpoints.find("latest")
