"""What the pages show is run: blocks of Python on tiny runs, and command lines as far as their options and keys.

Blocks of one page follow each other in one folder and one namespace. `make_config` gives tiny sizes, `resume` goes on
for a few env_steps; nothing else is different. The walk of agents.md is tested by `tests/test_walk.py` and
`tests/third_party`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tiny_runs import SMALL

import reverie
from reverie import overrides
from reverie.cli import cli
from reverie.config import Config
from reverie.errors import UserError
from reverie.run.configure import configure

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [page for page in PAGES if "```python" in page.read_text() and page.name != "agents.md"]
TINY = {"run.env_steps": 80, "run.prefill": 20, "run.checkpoint_every": 0, "run.eval_every": 0, "run.eval_episodes": 2}
ELSEWHERE = re.compile(
    r"\bmy[_.]|\bmine\b|[<{\[]|\b(RUN|DIR|OUT|AGENT|NAME|RUN_OR_DIR)\b|\.\.\.|munchausen|presets_example|corridor:"
)
"""command lines that name what the reader has, or has to fill in"""


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_blocks_of_python_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = reverie.make_config

    def tiny(*words: Any, **named: Any) -> Config:
        config = full(*words, **named)
        keys = overrides.flatten(config)
        small = {key: value for key, value in {**SMALL, **TINY}.items() if key in keys}
        return overrides.apply(config, small)

    go_on = reverie.resume

    def briefly(run_dir: str, changes: dict[str, Any] | None = None, **more: Any) -> Any:
        changes = dict(changes or {})
        if changes.get("run.env_steps", 0) > 10_000:
            changes["run.env_steps"] = 120
        return go_on(run_dir, changes, **more) if changes else go_on(run_dir, **more)

    monkeypatch.setattr(reverie, "make_config", tiny, raising=False)
    monkeypatch.setattr(reverie, "resume", briefly, raising=False)
    monkeypatch.chdir(tmp_path)
    if page.name == "rows.md":  # it reads a run that a command line has made
        reverie.train(overrides.apply(tiny("dreamerv2", "cpu", "toy/catch"), {"replay.store.chunk": 8}), "runs/made")
        (tmp_path / "runs" / "made").rename(tmp_path / "runs" / "dreamerv2-toy_catch-cpu-seed0")
    namespace: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def commands() -> Iterator[tuple[str, str]]:
    """Command lines of all pages: in blocks of sh, and in indented ones."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        shell = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
        lines = [*shell.splitlines(), *re.findall(r"^    (?=\S)(.*)$", text, re.M)]
        for line in lines:
            if line.startswith("reverie ") and not ELSEWHERE.search(line.partition("  #")[0]):
                yield page.name, line


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_command_lines_are_understood(page: str, line: str) -> None:
    words = shlex.split(re.split(r"\s{3,}", line)[0], comments=True)[1:]
    command = cli.commands[words[0]]
    try:
        context = command.make_context(words[0], words[1:])
    except click.exceptions.Exit:
        return  # --help and --version
    except (click.ClickException, UserError) as error:
        pytest.fail(f"{page}: {line}: {error}")
    given = context.params
    if words[0] == "train":
        short = {name: given[name] for name in ("frames", "env_steps", "seed", "device")}
        begun = (f"--init.run={given['init']}",) if given["init"] else ()
        begun += (f"--ray.actors={given['actors']}",) if given["actors"] else ()
        further = (*begun, *given["overrides"])
        configure(given["agent"], given["preset"], given["env"], further, short, given["file"])


def test_there_are_command_lines_to_check() -> None:
    assert len(set(commands())) > 40


def test_a_misspelt_key_on_a_page_would_be_found() -> None:
    with pytest.raises(UserError, match="unknown key"):
        test_command_lines_are_understood("x.md", "reverie train dqn --env toy/catch --agent.gama 0.9")
    with pytest.raises(pytest.fail.Exception, match="No such option"):
        test_command_lines_are_understood("x.md", "reverie dream runs/a --epsodes 3")
