"""Modules of other people: what they raise when they are imported is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverie.errors import UserError
from reverie.outside import import_outside


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "module broken_module cannot be imported: SyntaxError: "),
        ("1 / 0\n", "module broken_module cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_module_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    (tmp_path / "broken_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        import_outside("broken_module:Env", "broken_module")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.detail
