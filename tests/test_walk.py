"""The walk of docs/agents.md shows the very agents that are tested, but for their docstrings and comments."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WALK = (HERE.parent / "docs" / "agents.md").read_text()


def bare(code: str) -> str:
    """Code without docstrings, comments and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@pytest.mark.parametrize("file", sorted(path.name for path in (HERE / "third_party").glob("*.py")))
def test_the_walk_shows_what_is_tested(file: str) -> None:
    parts = re.findall(rf"```python\n(# {re.escape(file)}(?:, part \d of \d)?\n.*?)```", WALK, re.DOTALL)
    assert bare("\n".join(parts)) == bare((HERE / "third_party" / file).read_text())
