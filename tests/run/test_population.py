"""Populations: killed anywhere they end as if nobody had, copies are whole, and members are runs like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from engine import Engine
from tiny_runs import Crash, assert_same_run, lines

import reverie
from reverie import overrides
from reverie.agents.learner import tensors_of
from reverie.cli import cli
from reverie.config import POPULATION, Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.log import read_metrics
from reverie.run import cluster, population
from reverie.run.checkpoint import Checkpoints
from reverie.run.local import Local
from reverie.run.lock import Stop
from reverie.run.run import Run
from reverie.run.saved_config import load_chain, load_config

VARY = {"agent.opt.lr": [1e-4, 1e-1], "agent.entropy": [1e-3, 1e-2, 1e-1]}
RUN: dict[str, Any] = {
    "agent.torso.units": 8,
    "agent.torso.dense": 8,
    "agent.units": 6,
    "agent.popart": True,
    "env.num_envs": 4,
    "replay.batch": 4,
    "replay.window.learn": 4,
    "replay.window.period": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 200_000,
    "run.threads": 1,
    "run.env_steps": 180,
    "run.log_every": 40,
    "run.checkpoint_every": 40,
    "run.eval_every": 60,
    "run.eval_episodes": 1,
    "log.writers": [],
    "population.size": 3,
    "population.every": 60,
    "population.burn_in": 60,
    "population.episodes": 1,
    "population.vary": VARY,
}
MEMBERS = [f"member-{number}" for number in range(3)]


def config(**changes: Any) -> Config:
    return overrides.apply(make_config("impala", "cpu", "CartPole-v1"), RUN | changes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population that nobody interrupts."""
    root = tmp_path_factory.mktemp("population") / "alone"
    summary = reverie.train(config(), root)
    assert summary["finished"]
    assert summary["env_steps"] >= 3 * 180
    assert summary["best"] == str(root / MEMBERS[int(np.argmax(summary["eval_scores"]))])
    return root


def decisions(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / population.DECISIONS).read_text().splitlines()]


def test_every_decision_is_written_down_and_carried_out(alone: Path) -> None:
    made = decisions(alone)
    assert [(each["round"], each["member"]) for each in made] == [(r, m) for r in range(3) for m in range(3)]
    assert any(each["copied_from"] is not None for each in made)
    assert len({json.dumps(each["after"]) for each in made[:3]}) == 3
    for each in made[3:]:
        source = each["member"] if each["copied_from"] is None else each["copied_from"]
        before = next(d for d in made if (d["round"], d["member"]) == (each["round"] - 1, source))["after"]
        for key, value in each["after"].items():
            ratio = value / before[key]
            assert min(abs(ratio - r) for r in (1.0, 1.2, 1 / 1.2)) < 1e-9
        if each["copied_from"] is not None:
            assert each["rival_fitness"] > each["fitness"]
    for member in range(3):
        chain = load_chain(alone / MEMBERS[member])
        last = next(d for d in reversed(made) if d["member"] == member)["after"]
        assert chain.config.agent.opt.lr == last["agent.opt.lr"]
        assert chain.config.agent.entropy == last["agent.entropy"]
        assert chain.config.population.size == 0
    assert len({load_config(alone / name).run.seed for name in MEMBERS}) == 3
    assert not (alone / "donors").exists()


def test_fitness_is_that_of_the_round(alone: Path) -> None:
    made = decisions(alone)
    for each in made[3:]:
        since = next(d for d in made if (d["round"], d["member"]) == (each["round"] - 1, each["member"]))["env_steps"]
        scores = [
            line["episode/score"]
            for line in read_metrics(alone / MEMBERS[each["member"]])
            if "episode/score" in line and since < line["env_steps"] <= each["env_steps"]
        ]
        assert each["fitness"] == (pytest.approx(np.mean(scores)) if scores else None)
    assert sum(each["fitness"] is not None for each in made) > 3


class Lives:
    """Crashes after so many moments, before and after these functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *functions: tuple[Any, str]) -> None:
        self.left = 0
        for owner, name in functions:
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, do: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            self.moment()
            result = do(*arguments)
            self.moment()
            return result

        return wrapped

    def moment(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


DECIDING = ((population, "link"), (population.Population, "lend"), (population.Population, "note"))
WRITING = ((Checkpoints, "save"), (population, "take_over"), (population, "save_chain"))


@pytest.mark.parametrize("moments", [DECIDING, DECIDING + WRITING], ids=["at every moment of a decision", "anywhere"])
def test_killed_it_ends_as_if_nobody_had(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, moments: tuple[tuple[Any, str], ...]
) -> None:
    """Each life has one moment more than the one before; or, anywhere, a random number of them."""
    lives, rng, root, count = Lives(monkeypatch, *moments), np.random.default_rng(0), tmp_path / "run", 0
    settings = config()
    while True:
        lives.left = count + 1 if moments is DECIDING else int(rng.integers(3, 14))
        torch.manual_seed(count)
        try:
            result = reverie.resume(root) if (root / POPULATION).exists() else reverie.train(settings, root)
            break
        except Crash:
            count += 1
    assert count > 5
    assert result["finished"]
    assert decisions(root) == decisions(alone)
    for name in MEMBERS:
        assert_same_run(alone / name, root / name)


def test_a_round_that_is_over_is_not_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in an evaluation that a checkpoint owes, it has the same history: no hyper-parameters of before."""
    settings = config(**{"run.eval_every": 40, "population.size": 2, "population.explore": "always"})
    reverie.train(settings, tmp_path / "alone")
    real = Run.evaluate

    def killed(run: Run, learner: Any) -> None:
        if 60 <= run.clock.env_steps < 120 and run.run_dir.name == "member-0":
            raise Crash
        real(run, learner)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", killed)
        with pytest.raises(Crash):
            reverie.train(settings, tmp_path / "killed")
    made = Checkpoints(tmp_path / "killed" / "member-0").head()
    assert made is not None
    assert made["owed"]
    reverie.resume(tmp_path / "killed")
    for member in ("member-0", "member-1"):
        told = [load_chain(tmp_path / root / member).lines() for root in ("killed", "alone")]
        assert told[0] == told[1] != []


def test_stopped_in_a_slice_it_says_how_to_go_on(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked = tmp_path / "run", []
    tick = reverie.run.run.Run.tick

    def stopping(run: Any) -> None:
        tick(run)
        if run.clock.env_steps >= 90 and not asked:
            asked.append(True)
            run.stop.ask("SIGTERM")

    monkeypatch.setattr(reverie.run.run.Run, "tick", stopping)
    assert reverie.train(config(), root)["stopped"] == "SIGTERM"
    said = capsys.readouterr().err
    assert f"SIGTERM: saved; go on with: reverie resume {root}" in said
    assert MEMBERS[0] not in said
    assert reverie.resume(root)["finished"]
    assert decisions(root) == decisions(alone)


def test_a_round_that_was_written_in_part_is_written_again(tmp_path: Path, alone: Path) -> None:
    path = tmp_path / population.DECISIONS
    text = (alone / population.DECISIONS).read_text().splitlines(keepends=True)
    path.write_text("".join(text[:7]) + text[7][:40])
    made = population.read_decisions(path, 3)
    assert [len(each) for each in made] == [3, 3]
    path.write_text("".join(text[:2]) + "nonsense\n")
    with pytest.raises(UserError, match="is damaged"):
        population.read_decisions(path, 3)


def test_a_copy_takes_networks_statistics_and_moments_and_nothing_else(tmp_path: Path, alone: Path) -> None:
    plain = load_config(alone / MEMBERS[0])
    local = Local(plain, tmp_path)
    local.learner.learner_steps = 17
    noise = local.learner.noise.state()
    folder = Checkpoints(alone / MEMBERS[1]).find("latest")
    population.take_over(local.learner, folder)
    donor = Local(load_config(alone / MEMBERS[1]), alone / MEMBERS[1])
    donor.restore()
    theirs, ours = tensors_of(donor.learner), tensors_of(local.learner)
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == {"policy.version"}
    assert float(local.learner.policy.critic.mean) != 0.0  # type: ignore[union-attr, arg-type]
    names = {tensor: name for name, tensor in ours.items()}
    moments = local.learner.optimisers["actor_critic"].state_dict(names)
    their_names = {tensor: name for name, tensor in theirs.items()}
    for name, values in donor.learner.optimisers["actor_critic"].state_dict(their_names).items():
        assert values
        assert all(torch.equal(value, moments[name][moment]) for moment, value in values.items())
    assert local.learner.learner_steps == 17
    assert str(local.learner.noise.state()) == str(noise)


def test_without_copies_it_would_be_another(tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: networks that are not taken over."""
    monkeypatch.setattr(population, "take_over", lambda learner, folder: None)
    reverie.train(config(), tmp_path / "run")
    assert any(lines(tmp_path / "run" / name) != lines(alone / name) for name in MEMBERS)


def test_a_burn_in_decides_nothing(tmp_path: Path) -> None:
    root = tmp_path / "run"
    reverie.train(config(**{"population.burn_in": 100, "population.size": 2}), root)
    made = decisions(root)
    assert len(made) == 2 * 3
    assert all(each["fitness"] is None and each["after"] == each["before"] for each in made[2:4])
    assert all(each["fitness"] is not None for each in made[4:])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"population.burn_in": 150}, "nothing would ever be decided: rounds end after 60, 120, 180 env_steps"),
        ({"population.every": 1}, "nothing would ever be decided: rounds end after 180 env_steps"),
        (
            {"population.vary": {"population.every": [0.2, 0.5]}},
            "'population.every' cannot change in the middle of a run",
        ),
    ],
)
def test_what_would_never_change_is_refused_at_once(tmp_path: Path, settings: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        reverie.train(config(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_with_actors_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connected(options: Any) -> Iterator[Engine]:
        yield Engine()

    monkeypatch.setattr(cluster, "connected", connected)
    root = tmp_path / "run"
    settings = config(**{"ray.actors": 2, "population.size": 2, "run.env_steps": 120, "run.eval_every": 0})
    assert reverie.train(settings, root)["finished"]
    assert len(decisions(root)) == 2 * 2


def invoke(*words: str) -> Any:
    return CliRunner().invoke(cli, list(words))


def test_the_same_command_goes_on_and_another_is_refused(alone: Path) -> None:
    words = [f"--{key}={json.dumps(value) if isinstance(value, dict | list) else value}" for key, value in RUN.items()]
    command = ["train", "impala", "--preset", "cpu", "--env", "CartPole-v1", "--logdir", str(alone), *words]
    result = invoke(*[word.replace("--population.size=3", "--population=3") for word in command])
    assert result.exit_code == 0, result.output
    assert "finished" in result.output
    other = invoke(*command, "--agent.gamma", "0.5")
    assert other.exit_code == 2
    assert "agent.gamma is 0.99 there, 0.5 here" in other.output
    told = invoke("status", str(alone))
    assert "of_rounds" in told.output, told.output
    assert "agent.opt.lr=" in told.output


def test_members_are_runs_and_the_population_is_none(alone: Path) -> None:
    assert reverie.evaluate(alone / MEMBERS[1], episodes=1)["episodes"] == 1
    assert invoke("plot", str(alone), "--out", str(alone / "curves.png")).exit_code == 0
    for words, reason in (
        (("eval", str(alone)), "is a population: name one of its members, member-0, member-1, member-2"),
        (("resume", str(alone / MEMBERS[0])), "is a member of the population"),
        (("resume", str(alone), "--env_steps", "999"), "goes on as it is"),
    ):
        result = invoke(*words)
        assert result.exit_code == 2
        assert reason in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"population.vary": {"agent.nothing": [1.0, 2.0]}}, "'agent.nothing' is no key of impala"),
        ({"population.vary": {"agent.reward": [1.0, 2.0]}}, "'agent.reward' is no key of impala with a number"),
        ({"population.vary": {"agent.gamma": [0.5, 2.0]}}, "gamma"),
        ({"population.vary": {"replay.batch": [8, 32]}}, "'replay.batch' is a whole number"),
        ({"dataset.path": "somewhere"}, "population.size must be 0 where a run learns from a dataset"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        reverie.train(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_population_that_cannot_train_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing would be trained"):
        reverie.train(config(**{"run.env_steps": 4}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_files_of_a_checkpoint_are_lent(tmp_path: Path, alone: Path) -> None:
    """A checkpoint of a run in shards has folders of their rows too."""
    root = tmp_path / "run"
    shutil.copytree(alone, root)
    folder = Checkpoints(root / MEMBERS[1]).find("latest")
    (folder / "store.shards" / "0").mkdir(parents=True)
    (folder / "store.shards" / "0" / "rows").touch()
    everybody = population.Population(load_config(root, POPULATION), root, Stop())
    copied = replace(everybody.decisions[-1][0], round=2, copied_from=1)
    everybody.lend([copied])
    assert {path.name for path in everybody.donor(2, 1).iterdir()} == {p.name for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("agent", ["dqn", "dreamerv3"])  # the second has keys of the same names
def test_agents_that_do_not_learn_as_impala_must_say_what_varies(agent: str) -> None:
    with pytest.raises(UserError, match="say what varies"):
        population.ranges(overrides.apply(make_config(agent, "cpu", "CartPole-v1"), {"population.size": 2}))
    assert population.ranges(make_config("impala", "cpu", "CartPole-v1")) == population.IMPALA


def test_nobody_asks_a_member_for_its_reason() -> None:
    everybody = Stop()
    one = population.Relay(everybody)
    one.ask("SIGTERM")
    assert (one(), one.reason, everybody.reason) == (True, "", "SIGTERM")


def test_a_change_stays_within_the_bounds_of_its_key() -> None:
    """A discount of 0.99 times 1.2 would be none."""
    self = SimpleNamespace(config=make_config("dreamerv2", "cpu", "toy/catch"))
    values = {"agent.gamma": 1.188, "agent.lam": 0.9, "agent.horizon": 0, "agent.model_opt.lr": 3e-4}
    within = population.Population.within(self, values)  # type: ignore[arg-type]
    assert within == {"agent.gamma": 1.0, "agent.lam": 0.9, "agent.horizon": 2, "agent.model_opt.lr": 3e-4}


def test_bounds_of_a_key_that_may_be_none_are_those_of_its_number() -> None:
    assert overrides.bounds_of(make_config("dreamerv2", "cpu", "toy/catch"), "agent.kl_balance") == (0.0, 1.0)
