"""`reverie report --html`: what a document on runs says, and that no run is so broken that it says nothing."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_runs import Never, begin, config, files

from reverie import overrides
from reverie.cli import cli
from reverie.config import with_settings
from reverie.presets import make_config
from reverie.report.page import Folded
from reverie.report.record import FILE, Record, read_metrics
from reverie.run.configure import configure
from reverie.run.lock import alone
from reverie.run.saved_config import versions
from reverie.run.train import resume
from reverie.study.about import EVALUATIONS, RANDOM, TRAINING, phases, read_about
from reverie.study.curves_of import Group, groups
from reverie.study.html import html_report
from reverie.study.met import met_by_comparison, met_by_run
from reverie.study.scores import common, learning
from reverie.study.settings import _train
from tests.report.html_check import Checked, check
from tests.report.run_dirs import make_run

RESULTS = Path(__file__).parents[2] / "results"
HOSTILE = "<script>alert(1)<img src=x onerror=alert(2)>$x$\"'"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that dreams, which was then made longer with another discount."""
    settings = config("toy/catch", run__env_steps=60, run__eval_every=20, agent__entropy=0.2)
    begin(settings, tmp_path_factory.mktemp("runs") / "dreaming").train(Never())
    run_dir = next(tmp_path_factory.getbasetemp().glob("runs*/dreaming"))
    resume(run_dir, {"run.env_steps": 70, "agent.gamma": 0.5})
    return run_dir


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


def page(out: Path) -> Checked:
    return check(out.read_text())


def report(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, words)])


def test_a_document_on_one_run(run: Path, tmp_path: Path) -> None:
    before = files(run)
    result = report(run, "--html", tmp_path / "out.html", "--horizon", "3")
    assert result.exit_code == 0, result.output
    assert files(run) == before  # the dream was made elsewhere
    found = page(tmp_path / "out.html")
    sections = ["run", "learning", "evaluations", "dreams", "losses", "time", "changes", "environment"]
    assert [name for name in found.ids if name in sections] == sections
    assert found.tags["img"] == 2
    text = " ".join(found.text.split())
    for words in (
        "dreamerv2 on toy/catch",
        "preset cpu, seed 0. All 70 env_steps were made, and the last evaluation was played.",
        f"torch {versions()['torch']}",
        versions()["machine"],
        "To compare with: random -0.75, best possible 1.",
        "This was made for this page.",
        "at 60 env_steps: agent.gamma 0.97 -> 0.5, run.env_steps 60 -> 70",
        "image, uint8 [32, 32, 1] in [0, 255]",
        "agent.entropy 0.2 0.1",
        "catch-dreamerv2: DreamerV2 (preset cpu) learns toy/catch",
        "and says nothing on it",
        "reverie train dreamerv2 --preset cpu --env toy/catch --seed 0 ",
        "--agent.entropy=0.2",
        "# what it was at its end: its settings changed on the way, see above",
        f"reverie report {run} --html {tmp_path / 'out.html'} --horizon 3",
    ):
        assert words in text, words
    assert "Evaluations during training" in text


def test_what_is_there_is_shown_and_not_made_again(run: Path, tmp_path: Path) -> None:
    for words in (
        ["dream", "--episodes", "2", "--horizon", "3", "--context", "2"],
        ["eval", "--episodes", "2", "--video"],
    ):
        assert CliRunner().invoke(cli, [words[0], str(run), *words[1:]]).exit_code == 0
    html_report([run], tmp_path / "out.html", make_dreams=False)
    found = page(tmp_path / "out.html")
    assert "This was made for this page." not in found.text
    assert "rewards made up" in found.text
    assert found.tags["video"] == 1
    assert found.tags["img"] == 2
    assert "evaluation.json" in found.text
    html_report([run], tmp_path / "again.html", make_dreams=False)
    assert (tmp_path / "again.html").read_text().replace("again.html", "out.html").split("<footer>")[0] == (
        tmp_path / "out.html"
    ).read_text().split("<footer>")[0]


def test_seeds_are_one_curve_with_an_interval(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"a{seed}", [seed, seed + 1.0], seed=seed)
        make_run(tmp_path / f"b{seed}", [9.0], seed=seed, core={"size": 16})
    html_report([tmp_path], tmp_path / "out.html")
    found = page(tmp_path / "out.html")
    text = " ".join(found.text.split())
    assert "IQM of 3 runs, 95 % interval" in text
    assert "r2d2 on toy/catch" in text
    assert "6 runs, of 2 kinds" in text
    assert "Where they differ" in text
    assert "agent.core.size 8 16" in text
    # The mean of three seeds at the second record, between the least and the greatest of them.
    assert "80 2 (1 to 3)" in text


def test_scores_of_runs_that_are_no_seeds_are_doubted(tmp_path: Path) -> None:
    for name, seed, scores in (("a", 0, [1.0, 2.0]), ("b", 0, [1.0, 2.0]), ("c", 1, [1.0, 2.0, 3.0])):
        run_dir = make_run(tmp_path / name, scores, seed=seed)
        last = {"env_steps": 10 * len(scores), "frames": 40 * len(scores), "eval/score": 2.0, "eval/episodes": 5}
        with (run_dir / FILE).open("a") as log:
            log.write(json.dumps(last | {"eval/cut": 2}) + "\n")
    html_report([tmp_path], tmp_path / "out.html")
    text = " ".join(page(tmp_path / "out.html").text.split())
    assert "these runs made 20 and 30 env_steps." in text
    assert "seed 0 is counted more than once." in text
    assert "mean of 3 scores; see the notes at the evaluations" in text
    assert "interquartile mean of 3" not in text
    assert "highest cut " in text
    html_report([tmp_path / "c"], tmp_path / "one.html")
    assert "score, mean of 5 episodes, 2 of them cut" in " ".join(page(tmp_path / "one.html").text.split())


COMMANDS: list[tuple[str, str | None, list[str]]] = [
    ("dqn", "toy/catch", ["--agent.gamma=0.9"]),
    ("dqn", "CartPole-v1", ["--replay.selector.kind=uniform", "--agent.gamma=0.9"]),
    ("r2d2", "toy/catch", ["--replay.selector.kind=recency", "--replay.selector.horizon=300"]),
    ("dqn", "toy/tmaze", ["--env.options.length=3", "--env.options.pixels=false", "--run.env_steps=1200"]),
    ("plan2explore", "toy/catch", ["--agent.base=dreamerv3", "--agent.members=3"]),
    ("harmonydream", "toy/noisy-catch", ["--agent.base=dreamerpro", "--env.options.dense=0.5"]),
    ("tdmpc2", "dmc/walker-walk", ["--env.protocol=dmc-proprio", "--env.options.action_repeat=4"]),
    ("planet", "dmc/cartpole-swingup", ["--env.options.render=cheap"]),
]


@pytest.mark.parametrize(("agent", "env", "words"), COMMANDS)
def test_the_command_that_makes_a_run_again_makes_this_one(agent: str, env: str, words: list[str]) -> None:
    if env.startswith("dmc/"):
        pytest.importorskip("dm_control")
    made = configure(agent, "cpu", env, [*words, "--run.seed=3"], {})
    _, _, name, *again = shlex.split(_train(made))
    options = dict(zip(again[0:6:2], again[1:6:2], strict=True))
    assert options == {"--preset": "cpu", "--env": env, "--seed": "3"}
    assert configure(name, "cpu", env, again[6:], {"seed": "3"}) == made
    assert {word.partition("=")[0] for word in words} <= {word.partition("=")[0] for word in again[6:]}


def test_time_of_an_evaluation_is_none_of_training() -> None:
    lines: list[Record] = [
        {"env_steps": 10, "frames": 10, "time/elapsed_s": 3.0},
        {"env_steps": 20, "frames": 20, "learner_steps": 4, "time/elapsed_s": 7.0},
        {
            "env_steps": 30,
            "frames": 30,
            "learner_steps": 8,
            "time/elapsed_s": 12.0,
            "eval/score": 1.0,
            "time/eval_s": 2.0,
        },
        {"env_steps": 40, "frames": 40, "learner_steps": 9, "time/elapsed_s": 20.0, "eval/score": 1.0},  # of before
    ]
    assert phases(lines) == {RANDOM: 3.0, TRAINING: 4.0 + 3.0, EVALUATIONS: 2.0 + 8.0}


def test_names_are_text(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / HOSTILE, agent=HOSTILE, env=HOSTILE, **{HOSTILE: HOSTILE}),
        make_run(tmp_path / "other", env=HOSTILE, preset_of="<b>"),
    ]
    html_report(runs, tmp_path / "out.html")
    found = page(tmp_path / "out.html")
    assert found.text.count(HOSTILE) >= 6
    assert found.tags["img"] == 0


def test_a_run_that_is_trained_now(run: Path, tmp_path: Path) -> None:
    with alone(run):
        html_report([run], tmp_path / "out.html", make_dreams=False)
    assert "It is being trained now: 70 of 70 env_steps are in its log." in page(tmp_path / "out.html").text


def test_a_run_without_a_checkpoint_or_evaluation(tmp_path: Path) -> None:
    settings = overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), {"run.env_steps": 50, "run.prefill": 10})
    begin(settings, tmp_path / "run")
    html_report([tmp_path / "run"], tmp_path / "out.html")
    text = page(tmp_path / "out.html").text
    assert "It has no checkpoint; its log ends after 0 of 50 env_steps." in text
    assert "nothing to draw" in text or "empty so far" in text
    assert "Nothing was dreamed" in text


def test_an_agent_without_a_world_model(tmp_path: Path) -> None:
    html_report(["zoo/cartpole"], tmp_path / "out.html")
    text = page(tmp_path / "out.html").text
    assert "dqn has no world model, so there is no dream of it." in text
    assert "A model of the zoo" in text
    assert "reverie train dqn --preset cpu --env CartPole-v1 --seed 0\n" in text


def test_damaged_lines_and_files_are_sentences(run: Path, tmp_path: Path) -> None:
    lines = (run / FILE).read_text().splitlines()
    lines[1:1] = ["{", "[]", '{"env_steps": 1}', '{"env_steps": "x", "frames": 2}', '{"env_steps": 1, "frames": null}']
    (run / FILE).write_text("\n".join(lines) + "\n" + '{"cut')
    (run / "evaluation.json").write_text("{}")
    (run / "evaluation_5.json").write_text('{"score": "high"}')
    (run / "videos").mkdir()
    (run / "videos" / "dream.json").write_text("no JSON")
    (run / "config.json").write_text((run / "config.json").read_text().replace('"gamma"', '"gama"'))
    html_report([run], tmp_path / "out.html")
    text = page(tmp_path / "out.html").text
    for words in (
        f"5 damaged lines of {FILE} are left out (2, 3, 4, 5, 6).",
        "evaluation.json has no score, and is left out.",
        "evaluation_5.json is not what `reverie eval` writes",
        "dream.json cannot be read",
        "Its configuration cannot be read by this version",
    ):
        assert words in text, words


def test_the_newest_checkpoint_is_damaged(run: Path, tmp_path: Path) -> None:
    newest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text()
    (newest / "state.json").write_text("{")
    html_report([run], tmp_path / "out.html")
    assert "Its newest checkpoint cannot be read" in page(tmp_path / "out.html").text


def test_pauses_are_told(run: Path, tmp_path: Path) -> None:
    records = read_metrics(run)
    for record in records[5:]:
        record["time/unix_s"] += 7200
    (run / FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    html_report([run], tmp_path / "out.html", make_dreams=False)
    text = page(tmp_path / "out.html").text
    assert f"before {records[5]['env_steps']} env_steps it was away for 2.0 h" in text
    assert text.count("it was away") == 1


def test_an_environment_that_cannot_be_made_is_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no display\nat all")

    monkeypatch.setattr("reverie.study.html.build_env", broken)
    html_report([run], tmp_path / "out.html")
    text = " ".join(page(tmp_path / "out.html").text.split())
    assert "toy/catch could not be made here: OSError: no display at all" in text


def test_a_comparison(tmp_path: Path) -> None:
    html_report([RESULTS / "harmony" / "balancers"], tmp_path / "out.html")
    text = " ".join(page(tmp_path / "out.html").text.split())
    assert "Comparison on toy/noisy-catch" in text
    assert "harmony-closed 3 18.314 18.1 to 18.6 18.11, 18.62, 18.21" in text
    assert "noisy-catch-harmony: " in text
    assert "summary.harmony.min in [15.0, 19.5] 17.06 supports it" in text
    assert text.count("supports it") == 3


def test_a_comparison_of_agents_without_models_has_one_table_of_measures(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    shutil.copy(RESULTS / "learning" / "dqn-cartpole.json", tmp_path / "made" / "comparison.json")
    html_report([tmp_path / "made"], tmp_path / "out.html")
    text = " ".join(page(tmp_path / "out.html").text.split())
    assert "What their models foresee" not in text
    assert "minutes env_steps/s" in text


def test_a_run_of_another_length_says_nothing_on_a_claim() -> None:
    same = make_config("dqn", "cpu", "CartPole-v1")
    for changes in ({"run.env_steps": 1500}, {"run.eval_limit": 12}):
        (short,) = (
            each for each in met_by_run(overrides.apply(same, changes), 57.0) if each.claim.name == "cartpole-dqn"
        )
        assert (short.settings, short.verdicts) == (tuple(changes), ())


def test_a_score_is_held_against_claims_when_all_of_the_run_was_made(run: Path) -> None:
    other = read_about(run)
    assert not other.whole  # its settings changed on the way
    assert other.chain is not None
    whole = replace(other, chain=replace(other.chain, past={}))
    assert whole.whole
    assert whole.head is not None
    assert not replace(whole, head=dict(whole.head) | {"finished_at": -1}).whole
    assert not replace(whole, head=None).whole


def test_claims_hold_for_the_same_settings_only() -> None:
    same = make_config("dqn", "cpu", "CartPole-v1")
    met = {each.claim.name: each for each in met_by_run(same, 480.0)}
    assert met["cartpole-dqn"].settings == ()
    assert met["cartpole-dqn"].verdicts[0][1:] == ("480", True)
    assert met["masked-cartpole-dqn"].settings
    assert met["masked-cartpole-dqn"].verdicts == ()
    (bad,) = (each for each in met_by_run(same, 470.0) if each.claim.name == "cartpole-dqn")
    assert [holds for *_, holds in bad.verdicts] == [False] * len(bad.verdicts)
    other = overrides.apply(same, {"agent.gamma": 0.5, "run.seed": 4, "run.eval_every": 7})
    (otherwise,) = (each for each in met_by_run(other, 480.0) if each.claim.name == "cartpole-dqn")
    assert (otherwise.settings, otherwise.verdicts) == (("agent.gamma",), ())
    assert met_by_run(make_config("dqn", "cpu", "toy/tmaze"), 1.0) == []
    document = json.loads((RESULTS / "learning" / "dqn-cartpole.json").read_text())
    assert [each.claim.name for each in met_by_comparison(document)] == ["cartpole-dqn"]
    assert met_by_comparison(document | {"frames": 700}) == []


def test_what_a_claims_own_command_makes_is_held_against_it_and_another_length_is_not() -> None:
    document = json.loads((RESULTS / "harmony" / "balancers" / "comparison.json").read_text())
    assert "noisy-catch-harmony" in [each.claim.name for each in met_by_comparison(document)]
    assert met_by_comparison(document | {"frames": 40_000}) == []
    # Settings that cannot be looked at may be others.
    assert met_by_comparison(document | {"preset": "nonsense"}) == []
    assert met_by_comparison(document | {"overrides": ["agent.no_such_key=1"]}) == []
    preset = make_config("harmonydream", "cpu", "toy/noisy-catch")
    own = with_settings(preset, {"run.frames": 16_000, "run.prefill": 800})
    for asked, different in ((own, ()), (preset, ("run.prefill", "run.frames"))):
        (met,) = (each for each in met_by_run(asked, 17.0) if each.claim.name == "noisy-catch-harmony")
        assert (met.settings, bool(met.verdicts)) == (different, not different)


def test_levels_of_a_picture_are_those_that_all_in_it_have() -> None:
    small, large = Group("small", ()), Group("large", ())
    levels = {"small": {"random": -0.5, "best possible": 1.0}, "large": {"random": -0.75, "best possible": 1.0}}
    assert common([small], levels) == levels["small"]
    assert common([small, large], levels) == {"best possible": 1.0}


def test_curves_are_of_whole_games_where_a_life_is_an_episode(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "lives", [1.0, 1.0, 1.0])
    with (run_dir / FILE).open("a") as log:
        for env_steps in (20, 30):
            units = {"env_steps": env_steps, "frames": 4 * env_steps, "learner_steps": 0}
            log.write(json.dumps(units | {"episode/game_return": 567.0}) + "\n")
    (group,) = groups([read_about(run_dir)])
    section = learning([group], {group.label: {"random": 0.5}})
    assert section is not None
    (table,) = [block for block in section.blocks if isinstance(block, Folded)]
    assert "567" in str(table)


def test_a_score_that_is_no_number_is_told_and_left_out(run: Path) -> None:
    (run / "evaluation.json").write_text(json.dumps({"score": "nan", "episodes": 3, "env_steps": 70, "scores": []}))
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"env_steps": 70, "frames": 70, "learner_steps": 9, "eval/score": float("nan")}) + "\n")
    about = read_about(run)
    assert about.score() is None
    assert any("The score in evaluation.json is nan" in note for note in about.notes)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (lambda folder: ["nowhere", "--html", folder / "o.html"], "is not a directory"),
        (lambda folder: [folder, "--html", folder / "o.html"], "has no run in it"),
        (lambda folder: ["zoo/cath", "--html", folder / "o.html"], "the zoo has no model 'cath'; did you mean catch"),
        (lambda folder: ["zoo/cartpole", "--html", folder / "file" / "o.html"], "cannot write in"),
        (lambda folder: ["zoo/cartpole", "--html", folder], "is a folder; name a file"),
        (lambda folder: ["zoo/cartpole", "--html", folder / "o.html", "--gif"], "--gif is of one run's numbers"),
        (lambda folder: ["zoo/cartpole", "zoo/catch", "--random-play"], "--random-play is of one run's numbers"),
        (lambda folder: ["zoo/cartpole", "--no-dreams"], "--no-dreams is of the document; add --html FILE"),
        (lambda folder: ["zoo/catch", "--html", folder / "config.json"], "should end with .html"),
        (lambda folder: ["zoo/catch", "--episodes", "9"], "--episodes is of sequences in the GIF; add --gif"),
        (lambda folder: [folder / "damaged", "--html", folder / "o.html"], "is damaged"),
        (lambda folder: [folder / "compared", "--html", folder / "o.html"], "comparison.json is damaged"),
        (lambda folder: [], "Missing argument 'DIR...'"),
    ],
)
def test_slips_are_one_line(words: Callable[[Path], list[Any]], says: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    if says == "is damaged":
        make_run(tmp_path / "damaged")
        (tmp_path / "damaged" / "config.json").write_text('{"config": {"env": 3}}')
    if "comparison" in says:
        (tmp_path / "compared").mkdir()
        (tmp_path / "compared" / "comparison.json").write_text('{"summary": {"a": {}}}')
    result = report(*words(tmp_path))
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "o.html").exists()


def test_several_runs_need_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    result = report("a", "b", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == {"html": "report.html", "bytes": (tmp_path / "report.html").stat().st_size, "runs": ["a", "b"]}
