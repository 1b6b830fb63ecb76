"""The command line with stand-ins for what runs: what reaches them, and that slips are one line and code 2."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import reverie.study.compare
from reverie import overrides
from reverie.cli import cli
from reverie.errors import UserError, suggest
from tests.report.run_dirs import weighed


@dataclass(frozen=True)
class Agent:
    gamma: float = 0.99
    double: bool = False


@dataclass(frozen=True)
class Env:
    id: str = "toy/catch"


@dataclass(frozen=True)
class Run:
    seed: int = 0
    frames: int = 1000
    env_steps: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be positive,\ngot {self.frames}")


@dataclass(frozen=True)
class Dataset:
    path: str = ""


@dataclass(frozen=True)
class Population:
    size: int = 0


@dataclass(frozen=True)
class Config:
    name: str = "dreamerv2"
    preset: str = "cpu"
    agent: Agent = field(default_factory=Agent)
    env: Env = field(default_factory=Env)
    run: Run = field(default_factory=Run)
    dataset: Dataset = field(default_factory=Dataset)
    population: Population = field(default_factory=Population)


class Calls(list[tuple[str, Any]]):
    """What the stand-ins were called with."""

    def note(self, name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.append((name, (*args, kwargs) if kwargs else args))
            return answer

        return call


def make_config(agent: str, preset: str | None, env: str | None, **seen: Any) -> Config:
    if preset not in (None, "cpu", "atari"):
        raise UserError(f"unknown preset {preset!r}{suggest(preset or '', ['cpu', 'atari'])}")
    return Config(name=agent, preset=preset or "cpu", env=Env(env or "toy/catch"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    noted = Calls()
    saved: dict[str, Config] = {}

    def train(config: Config, run_dir: Path) -> dict[str, Any]:
        run_dir.mkdir(parents=True)
        (run_dir / "config.json").touch()
        saved[str(run_dir)] = config
        noted.append(("train", (config, run_dir)))
        return {"score": 0.123456789, "frames": 1000}

    entry = SimpleNamespace(paper="a paper", summary="a summary")
    known = {"dreamerv2": entry, "r2d2": entry}

    def find(agent: str) -> SimpleNamespace:
        if agent not in known:
            raise UserError(f"unknown agent {agent!r}{suggest(agent, known)}")
        return known[agent]

    report = SimpleNamespace(ok=True, lines=lambda: ["ok: flags", "ok: seeds"])
    stand_ins: dict[str, dict[str, Any]] = {
        "reverie.agents": {"agents": lambda: known, "find": find},
        "reverie.presets": {
            "make_config": make_config,
            "presets": lambda: {"dreamerv2": ["cpu", "atari"]},
            "describe": lambda agent, preset: f"{agent} as in {preset}",
            "bases_of": lambda agent: ["dreamerv1", "dreamerv2"],
            "presets_of": lambda agent, base: ["cpu", "other"],
        },
        "reverie.run.saved_config": {"load_config": lambda run_dir: saved[str(run_dir)]},
        "reverie.run.train": {"train": train, "resume": noted.note("resume", {"score": 1.0})},
        "reverie.play.evaluate": {"evaluate": noted.note("evaluate", {"score": 2.0, "scores": [2.0] * 20})},
        "reverie.play.foresight": {"report": noted.note("report", {"reward": {"error": 0.25}})},
        "reverie.play.dream": {"dream": noted.note("dream", {"error": 0.5})},
        "reverie.play.demo": {"demo": noted.note("demo")},
        "reverie.envs.make": {"env_names": lambda: {"toy": ["toy/catch"], "ALE": []}},
        "reverie.envs.check": {"check_env": noted.note("check_env", report)},
        "reverie.doctor": {"report": lambda echo: (echo("ok"), 1)[1]},
    }
    for name, members in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    # Real, but with the stand-ins in it; for this test only.
    spec = importlib.util.find_spec("reverie.run.configure")
    assert spec is not None
    assert spec.loader is not None
    configure = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, configure)
    spec.loader.exec_module(configure)
    monkeypatch.chdir(tmp_path)
    return noted


def reverie(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def refused(*words: str) -> str:
    """The one line of an error; fails unless it is one line on standard error, nothing else, and code 2."""
    result = reverie(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("reverie: error: ")
    return result.stderr


def test_train_passes_the_whole_configuration(calls: Calls) -> None:
    words = "train dreamerv2 --preset atari --env ALE/Pong-v5 --logdir there --frames 1e6 --seed 3 --device cpu"
    result = reverie(*words.split(), "--agent.gamma", "0.5", "--agent.double")
    assert result.exit_code == 0, result.output
    ((name, (config, run_dir)),) = calls
    expected = Config(
        preset="atari", agent=Agent(0.5, True), env=Env("ALE/Pong-v5"), run=Run(seed=3, frames=10**6, device="cpu")
    )
    assert (name, config, run_dir) == ("train", expected, Path("there"))
    assert result.stdout == "dreamerv2 (atari) on ALE/Pong-v5, in there\nscore   0.1235\nframes  1000\n"


@pytest.mark.parametrize(
    "words",
    [
        "--agent.gamma 0.5 --seed 3",
        "--seed=3 --agent.gamma=0.5",
        "agent.gamma=0.5 --seed 3",
        "--run.seed 3 agent.gamma=0.5",
        "--agent.gamma 0.9 --seed 3 --agent.gamma 0.5",
    ],
)
def test_every_spelling_of_overrides_reaches_the_run(calls: Calls, words: str) -> None:
    assert reverie("train", "dreamerv2", *words.split()).exit_code == 0
    assert calls[0][1][0] == Config(agent=Agent(0.5), run=Run(seed=3))


def test_negative_values_and_env_steps(calls: Calls) -> None:
    assert reverie("train", "r2d2", "--agent.gamma", "-1e-3", "--env_steps", "50").exit_code == 0
    assert calls[0][1][0] == Config("r2d2", agent=Agent(-1e-3), run=Run(env_steps=50))


def test_the_environment_may_be_given_as_a_key(calls: Calls) -> None:
    assert reverie("train", "dreamerv2", "env.id=toy/memory").exit_code == 0
    assert calls[0][1][0].env.id == "toy/memory"


def test_the_same_command_resumes(calls: Calls) -> None:
    command = ("train", "dreamerv2", "--env", "ALE/Pong-v5", "--seed", "1")
    assert reverie(*command).exit_code == 0
    run_dir = Path("runs/dreamerv2-ALE_Pong-v5-cpu-seed1")
    assert calls[-1][1][1] == run_dir
    result = reverie(*command)
    assert result.exit_code == 0
    assert calls[-1] == ("resume", (run_dir,))
    assert result.stdout == f"resuming {run_dir}\nscore  1\n"


def test_another_run_in_the_directory_is_left_alone(calls: Calls) -> None:
    assert reverie("train", "dreamerv2", "--logdir", "there").exit_code == 0
    error = refused("train", "dreamerv2", "--logdir", "there", "--agent.gamma", "0.5", "--frames", "7")
    assert "agent.gamma is 0.99 there, 0.5 here, run.frames is 1000 there, 7 here" in error
    assert "reverie resume there" in error
    assert [name for name, _ in calls] == ["train"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("eval there --video-episodes 3", "--video-episodes is of the video; add --video"),
        ("export there out --to onnx --starts 3", "--starts is of --to web"),
        ("export there out --to torch --seed 3", "--seed is of --to web"),
    ],
)
def test_options_that_would_do_nothing_are_refused(calls: Calls, words: str, reason: str) -> None:
    assert reverie("train", "dreamerv2", "--logdir", "there").exit_code == 0
    assert reason in refused(*words.split())


def test_a_file_that_names_the_agent_takes_other_keys_beside(calls: Calls) -> None:
    Path("a.yaml").write_text("name: dreamerv2\n")
    assert reverie("train", "--config", "a.yaml", "--agent.gamma", "0.5").exit_code == 0
    assert calls[-1][1][0].agent.gamma == 0.5


def test_what_is_wrong_in_a_file_is_told_with_its_name(calls: Calls) -> None:
    for text, reason in (("agent:\n  gama: 1", "unknown key 'agent.gama'"), ("agent.gamma: high", "'high' is not a")):
        Path("a.yaml").write_text(text)
        told = refused("train", "dreamerv2", "--config", "a.yaml")
        assert "--config a.yaml: " in told
        assert reason in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian dreamerv2", ["unknown command 'trian'", "did you mean train"]),
        ("train", ["Missing argument 'AGENT'"]),
        ("train dremerv2", ["unknown agent 'dremerv2'", "did you mean dreamerv2?"]),
        ("train --agent.gamma 1 dreamerv2", ["the agent comes first"]),
        ("train dreamerv2 --preset atary", ["unknown preset 'atary'", "did you mean atari?"]),
        ("train dreamerv2 --agent.gama 1", ["unknown key 'agent.gama'", "did you mean agent.gamma,"]),
        ("train dreamerv2 --sead 1", ["unknown key 'sead'", "run.seed"]),
        ("train dreamerv2 --agent.gamma high", ["agent.gamma = 'high' is not a float"]),
        ("train dreamerv2 --frames many", ["run.frames = 'many' is not an int"]),
        ("train dreamerv2 --frames 0", ["run.frames = 0: frames must be positive, got 0"]),
        ("train dreamerv2 --frames 1 --env_steps 1", ["give one of them"]),
        ("train dreamerv2 stray", ["unexpected argument 'stray'"]),
        ("resume nowhere", ["nowhere is not a run directory"]),
        ("eval nowhere", ["nowhere is not a run directory"]),
        ("dream nowhere", ["nowhere is not a run directory"]),
        ("report nowhere", ["nowhere is not a run directory"]),
        ("plot --weights a b", ["--weights draws one run, got 2"]),
        ("compare --env toy/catch --out o --variant alone", ["needs a name and an agent"]),
        ("compare --env toy/catch --out o --variant 'quick", ['"\'quick" cannot be read: No closing quotation']),
        ("compare --env toy/catch --out o --agents r2d2 --report 2 --threshold nan", ["--threshold nan must be"]),
        ("plot --weights --metric episode/length a", ["--metric is of learning curves"]),
        ("plot --weights --group env a", ["--group is of learning curves"]),
        ("plot --weights --normalise auto a", ["--normalise is of learning curves"]),
        ("report nowhere --seed -1", ["'--seed'", "x>=0"]),
        ("eval nowhere --seed -1", ["'--seed'", "x>=0"]),
        ("check-env toy/catch --seed -1", ["'--seed'", "x>=0"]),
        ("compare --env toy/catch --out o --agents r2d2 --seeds a", ["--seeds 'a' should be a number of seeds"]),
        ("reproduce", ["name a claim"]),
        ("eval nowhere --episodes 0", ["'--episodes'", "x>=1"]),
        ("eval nowhere --episodes 3", ["nowhere is not a run directory"]),
        ("list agnts", ["'agnts'", "agents"]),
        ("--verson", ["--verson"]),
    ],
)
def test_slips_are_one_line(calls: Calls, words: str, expected: list[str]) -> None:
    error = refused(*words.split())
    for part in expected:
        assert part in error
    assert calls == []


def test_a_file_is_not_a_folder(calls: Calls) -> None:
    Path("there").touch()
    assert "there is a file" in refused("train", "dreamerv2", "--logdir", "there")
    compare = ("compare", "--env", "toy/catch", "--agents", "r2d2")
    assert "there is a file" in refused(*compare, "--out", "there")
    assert "there is a file" in refused(*compare, "--out", "here", "--work", "there")
    weighed(Path("run"))
    assert "File exists: there" in refused("plot", "--weights", "run", "--out", "there/w.png")
    assert "Not a directory" in refused("plot", "--weights", "run", "--out", "there/below/w.png")
    Path("folder.png").mkdir()
    assert "Is a directory: folder.png" in refused("plot", "--weights", "run", "--out", "folder.png")


@pytest.mark.parametrize(("words", "name"), [((), "weights"), (("--out", "a/w.svg", "--x", "env_steps"), "a/w")])
def test_weights_of_a_run_are_drawn_where_it_says(calls: Calls, words: tuple[str, ...], name: str) -> None:
    weighed(Path("run"))
    result = reverie("plot", "--weights", "run", *words)
    picture, numbers = Path(words[1] if words else "weights.png"), Path(f"{name}.csv")
    assert (result.exit_code, result.stdout) == (0, f"picture  {picture}\nnumbers  {numbers}\n")
    assert picture.read_bytes()[:5] == (b"<?xml" if words else b"\x89PNG\r")
    head, *rows = numbers.read_text().splitlines()
    assert head.split(",")[:2] == ["env_steps" if words else "frames", "dynamics_loss"]
    assert [row.split(",")[0] for row in rows] == (["10", "20"] if words else ["40", "80"])


def _raise(error: BaseException) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        raise error

    return call


def test_errors_while_running(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_with(error: BaseException) -> None:
        monkeypatch.setattr(sys.modules["reverie.play.demo"], "demo", _raise(error))

    fails_with(UserError("two\nlines"))
    assert refused("demo") == "reverie: error: two lines\n"
    fails_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/replay"))
    assert refused("demo") == "reverie: error: No space left on device: runs/a/replay\n"
    fails_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert refused("demo") == "reverie: error: No space left on device; free some space\n"
    fails_with(PermissionError(errno.EACCES, "Permission denied", "/runs"))
    assert refused("demo") == "reverie: error: Permission denied: /runs\n"
    fails_with(KeyboardInterrupt())
    assert reverie("demo").exit_code == 130
    for ours in (RuntimeError("a bug"), OSError(errno.EBADF, "Bad file descriptor")):  # keep their traceback
        fails_with(ours)
        assert reverie("demo").exception is ours


def test_commands_on_a_run(calls: Calls) -> None:
    Path("there").mkdir()
    Path("there/config.json").touch()
    there = Path("there")
    reported = {"context": 2, "horizon": 45, "sequences": 100, "random_play": True, "threshold": None, "gif": False}
    reported |= {"episodes": 3, "out": None, "seed": 0}
    evaluated = {"episodes": 10, "video": False, "video_episodes": 1, "window": False, "in_dream": False, "seed": 0}
    evaluated |= {"checkpoint": "latest", "env": None, "settings": {}, "play": "greedy", "device": "cpu", "out": None}
    elsewhere = ("--env.options.flicker", "0.5", "--play", "random", "--render", "human")
    assert reverie("resume", "there").stdout == "score  1\n"
    assert reverie("eval", "there", "--episodes", "3", "--video").stdout == "score  2\n"
    assert '"scores": [' in reverie("eval", "there", "--json", *elsewhere).stdout
    assert reverie("dream", "there", "--horizon", "9", "--out", "a").stdout == "error  0.5\n"
    assert reverie("report", "there", "--random-play", "--context", "2").stdout == "reward.error  0.25\n"
    assert reverie("demo").exit_code == 0
    assert calls == [
        ("resume", (there,)),
        ("evaluate", (there, evaluated | {"episodes": 3, "video": True})),
        (
            "evaluate",
            (there, evaluated | {"settings": {"env.options.flicker": "0.5"}, "play": "random", "window": True}),
        ),
        ("dream", (there, {"context": 5, "horizon": 9, "episodes": 6, "out": Path("a")})),
        ("report", (there, reported)),
        ("demo", (Path("demo-run"),)),
    ]


def test_listings(calls: Calls) -> None:
    assert reverie("list", "agents").stdout.splitlines()[1] == "  r2d2       a summary (a paper)"
    assert reverie("list", "envs").stdout == "  toy  toy/catch\n  ALE  not installed\n"
    assert reverie("list", "presets").stdout.splitlines() == [
        "  dreamerv2 cpu    dreamerv2 as in cpu",
        "  dreamerv2 atari  dreamerv2 as in atari",
        "  dreamerv2        with --agent.base dreamerv2: cpu, other",
    ]
    many = [f"ALE/Game{number}-v5" for number in range(40)]
    sys.modules["reverie.envs.make"].__dict__["env_names"] = lambda: {"ALE": many}
    lines = reverie("list", "envs").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert ", ".join(line.strip().removeprefix("ALE  ").rstrip(",") for line in lines) == ", ".join(many)
    short = reverie("list").stdout.splitlines()
    assert short[1:] == [
        "  dreamerv2  cpu, atari",
        "envs                                         all: reverie list envs, reverie list envs ALE",
        f"  ALE    40  {', '.join(many[:6])}, ...",
    ]
    sys.modules["reverie.envs.make"].__dict__["env_names"] = lambda: {"ALE": many, "toy": ["toy/catch"]}
    assert reverie("list", "envs", "toy").stdout == "  toy  toy/catch\n"
    assert "unknown family 'toys'; did you mean toy" in refused("list", "envs", "toys")
    assert "unknown agent 'dremerv2'; did you mean dreamerv2" in refused("list", "agents", "dremerv2")


def test_checks_answer_with_their_exit_code(calls: Calls) -> None:
    result = reverie("check-env", "toy/catch", "--steps", "9")
    assert (result.exit_code, result.stdout) == (0, "ok: flags\nok: seeds\n")
    assert calls == [("check_env", ("toy/catch", 9, 0))]
    words = ("--env.options.flicker", "0.5", "--env.options.cells=11", "--env.protocol", "default", "--steps", "9")
    assert reverie("check-env", "toy/catch", *words).exit_code == 0
    assert calls[1:] == [("check_env", ("toy/catch", 9, 0, {"protocol": "default", "flicker": 0.5, "cells": 11}))]
    assert "run.seed does not change what is checked" in refused("check-env", "toy/catch", "--run.seed", "3")
    sys.modules["reverie.envs.check"].__dict__["check_env"] = lambda *_: SimpleNamespace(ok=False, steps=3)
    result = reverie("check-env", "toy/catch")
    assert (result.exit_code, result.stdout) == (1, "ok: False\nsteps: 3\n")
    assert reverie("doctor").exit_code == 1


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from reverie.cli import cli\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit as end: print(end.code, sorted({'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "Any key of the configuration can be set" in done.stdout
    assert reverie().exit_code == 0
    assert reverie("--version").stdout.startswith("reverie, version ")


@pytest.mark.parametrize("words", [["train", "dreamerv22"], ["resume", "/nonexistent/run"], ["tarin"]])
def test_the_installed_command_ends_with_one_line_and_code_2(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "reverie.cli", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("reverie: error: ")


def test_short_options_stand_for_keys_of_real_configurations() -> None:
    from reverie.config import EnvConfig, RunConfig

    assert {"seed", "frames", "device"} <= set(overrides.flatten(RunConfig()))
    assert "id" in overrides.flatten(EnvConfig())


@pytest.mark.parametrize("words", [["--env", ""], ["--logdir", ""], ["--logdir="], ["--dataset", ""], ["--init="]])
def test_an_unset_variable_of_the_shell_is_not_a_default(words: list[str], tmp_path: Path) -> None:
    """An empty --logdir would be the current directory."""
    with chdir(tmp_path):
        result = CliRunner().invoke(cli, ["train", "dqn", *words])
    assert result.exit_code == 2
    assert f"{words[0].removesuffix('=')} is given no value" in result.output
    assert not list(tmp_path.iterdir())
    result = CliRunner().invoke(cli, ["resume", ""])
    assert (result.exit_code, "one of the words is empty" in result.output) == (2, True)
