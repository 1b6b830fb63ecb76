"""The models that come with the package: whole, small, made by their commands, and never written to."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_runs import files

import reverie
from reverie.cli import cli
from reverie.errors import UserError
from reverie.run import zoo
from reverie.run.configure import configure
from reverie.run.saved_config import load_config

NAMES = zoo.names()


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_they_are_there() -> None:
    assert {"cartpole", "catch", "noisy-catch", "tmaze"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_has_networks_only(name: str) -> None:
    entry = zoo.read_entry(zoo.FOLDER / name)
    assert entry.size <= 3_000_000
    assert {path.suffix for path in entry.path.rglob("*") if path.is_file()} <= {
        ".json",
        ".jsonl",
        ".safetensors",
        ".md",
        "",
    }
    (state,) = entry.path.glob("checkpoints/*/state.json")
    tree = json.loads(state.read_text())["tree"]
    assert set(tree) == {"env_steps", "frames", "learner_steps", "trainer"}
    assert set(tree["trainer"]["learner"]) == {"tensors"}
    for path in entry.path.rglob("*.*"):
        if path.suffix != ".safetensors" and path.is_file():
            assert not any(place in path.read_text() for place in ("/tmp", "/home", "/root", "/work"))


@pytest.mark.parametrize("name", NAMES)
def test_its_command_is_that_of_its_configuration(name: str) -> None:
    entry = zoo.read_entry(zoo.FOLDER / name)
    words = shlex.split(entry.command)
    assert words[:2] == ["reverie", "train"]
    given = cli.commands["train"].make_context("train", words[2:]).params
    short = {key: given[key] for key in ("frames", "env_steps", "seed", "device")}
    made = configure(given["agent"], given["preset"], given["env"], given["overrides"], short)
    assert made == load_config(entry.path)


@pytest.mark.parametrize("name", NAMES)
def test_it_scores_far_more_than_random_actions(name: str) -> None:
    entry = zoo.read_entry(zoo.FOLDER / name)
    halfway = (entry.random + entry.best) / 2
    assert halfway < entry.score <= entry.best
    again = reverie.evaluate(f"zoo/{name}", episodes=10, seed=7)
    assert again["score"] > halfway
    assert again["env_steps"] == entry.env_steps


def test_what_is_made_of_it_goes_to_the_current_directory_and_not_into_the_package(tmp_path: Path) -> None:
    before = files(zoo.FOLDER / "catch")
    for words in (
        ("eval", "zoo/catch", "--episodes", "2", "--video"),
        ("dream", "zoo/catch", "--episodes", "2", "--context", "2", "--horizon", "2"),
        ("report", "zoo/catch", "--sequences", "3", "--context", "2", "--horizon", "2"),
    ):
        result = command(*words)
        assert result.exit_code == 0, result.output
    made = set(files(tmp_path))
    assert {"zoo-catch/evaluation.json", "zoo-catch/videos/dream.gif", "zoo-catch/report/prediction.json"} <= made
    assert {name.partition("/")[0] for name in made} == {"zoo-catch"}
    assert files(zoo.FOLDER / "catch") == before


def test_a_folder_of_that_name_wins(tmp_path: Path) -> None:
    (tmp_path / "zoo" / "catch").mkdir(parents=True)
    assert zoo.resolve("zoo/catch") == Path("zoo/catch")
    assert zoo.results_folder(Path("zoo/catch")) == Path("zoo/catch")
    assert "is not a run directory" in command("eval", "zoo/catch").output
    assert zoo.resolve("zoo/cartpole") == zoo.FOLDER / "cartpole"


def test_other_paths_are_left_as_they_are() -> None:
    for path in ("runs/a", "zoo", "a/zoo/catch", "/zoo/catch", "zoo/catch/checkpoints", "."):
        assert zoo.resolve(path) == Path(path)
    assert zoo.results_folder(Path("runs/a")) == Path("runs/a")
    assert zoo.as_named(zoo.FOLDER / "catch") == "zoo/catch"


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "zoo/cach"),
        ("dream", "zoo/cach"),
        ("report", "zoo/cach"),
        ("config", "zoo/cach"),
        ("plot", "zoo/cach"),
        ("status", "zoo/cach"),
        ("resume", "zoo/cach"),
    ],
    ids=lambda words: words[0],
)
def test_an_unknown_model_is_one_line_with_near_names(words: tuple[str, ...]) -> None:
    result = command(*words)
    assert result.exit_code == 2
    assert result.output.startswith("reverie: error: the zoo has no model 'cach'; did you mean catch")
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("words", [("resume", "zoo/catch"), ("branch", "zoo/catch", "b")], ids=lambda words: words[0])
def test_what_needs_rows_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    result = command(*words)
    assert result.exit_code == 2
    assert result.output.startswith("reverie: error: zoo/catch has networks only, no rows and no state to go on from")
    assert "--init zoo/catch" in result.output
    assert files(tmp_path) == {}


def test_python_takes_the_name_too(tmp_path: Path) -> None:
    policy, env = reverie.load("zoo/catch"), reverie.make_single("zoo/catch")
    obs, _ = env.reset(seed=0)
    state, score, over = policy.initial_state(1), 0.0, False
    while not over:
        action, state = policy.act(obs, state)
        obs, reward, over, *_ = env.step(action)
        score += float(reward)
    assert score == 1.0
    with pytest.raises(UserError, match="networks only"):
        reverie.resume("zoo/catch")


def test_a_run_begins_with_its_networks(tmp_path: Path) -> None:
    words = shlex.split(zoo.read_entry(zoo.FOLDER / "cartpole").command)[2:]
    short = ["--env_steps", "200", "--run.prefill", "100", "--run.eval_episodes", "1"]
    result = command("train", *words, *short, "--init", "zoo/cartpole", "--logdir", "begun")
    assert "begins with all networks of zoo/cartpole after 30000 env_steps" in result.output


def test_the_list_tells_what_each_is() -> None:
    result = command("zoo")
    assert result.exit_code == 0
    for name in NAMES:
        entry = zoo.read_entry(zoo.FOLDER / name)
        assert f"zoo/{name}" in result.output
        assert f"  {entry.command}" in result.output
        assert entry.agent in result.output
    told = json.loads(command("zoo", "--json").output)["models"]
    assert [model["model"] for model in told] == [f"zoo/{name}" for name in NAMES]
    assert all(model["bytes"] <= 3_000_000 for model in told)


def test_the_page_has_the_numbers_of_the_models() -> None:
    page = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `zoo/")]
    assert rows == [row(zoo.read_entry(zoo.FOLDER / name)) for name in NAMES]


def row(entry: zoo.Entry) -> str:
    config = load_config(entry.path)
    options = "".join(f", {key} {str(value).lower()}" for key, value in config.env.options.items())
    numbers = f"{entry.score:.4g} | {entry.random:.3g} | {entry.best:.3g} | {entry.size / 1e6:.1f} MB"
    return f"| `zoo/{entry.name}` | `{entry.agent}` on `{entry.env}`{options} | {numbers} |"


def test_damaged_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "broken").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "config.json").write_text("{}")
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "models")
    result = command("zoo")
    assert result.exit_code == 2
    assert result.output.startswith("reverie: error: the zoo's broken is damaged")


@pytest.mark.parametrize("name", NAMES)
def test_configurations_have_all_keys_of_today(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is new must be added to the models here: whoever opens one is told nothing."""
    load_config(zoo.FOLDER / name)
    assert capsys.readouterr().err == ""
