"""Runs that go on differently: longer, with other settings, elsewhere; what was before is kept, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny_runs import Crash, Stop, final, lines

from reverie import overrides
from reverie.agents.noise import Noise
from reverie.cli import cli
from reverie.config import Config
from reverie.errors import UserError
from reverie.nets.schedule import Length
from reverie.presets import make_config
from reverie.report.record import read_metrics
from reverie.run.chain import Chain, differences
from reverie.run.checkpoint import Checkpoints
from reverie.run.length import run_length
from reverie.run.local import Local
from reverie.run.saved_config import load_chain, load_config, save_chain
from reverie.run.train import changed, resume, train

SMALL: dict[str, Any] = {
    "agent.torso.units": 4,
    "agent.hidden": 4,
    "agent.opt.lr_over": 0,
    "agent.beta_over": 0,
    "agent.n_step": 3,
    "agent.explore.over": 100,
    "replay.selector": "uniform",
    "env.num_envs": 2,
    "replay.batch": 4,
    "replay.store.budget": 20_000,
    "replay.store.chunk": 16,
    "run.env_steps": 120,
    "run.prefill": 40,
    "run.train_ratio": 2.0,
    "run.log_every": 20,
    "run.checkpoint_every": 40,
    "run.eval_episodes": 1,
}


def small(**changes: Any) -> Config:
    return overrides.apply(
        make_config("dqn", "cpu", "CartPole-v1"), SMALL | {key.replace("__", "."): v for key, v in changes.items()}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 120 env_steps, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(small(), folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def go_on(run_dir: Path, changes: dict[str, Any], crash_at: int) -> None:
    """Go on differently, and end without a word at so many env_steps."""
    chain = changed(load_chain(run_dir), changes, run_dir)
    local = Local(chain.config, run_dir, chain)
    local.restore()
    save_chain(chain, run_dir)
    with pytest.raises(Crash):
        local.train(Stop(local, crash_at, crash=True))


def test_a_finished_run_goes_on_as_if_it_had_been_that_long_from_the_start(run: Path, tmp_path: Path) -> None:
    result = resume(run, {"run.env_steps": 240})
    assert (result["env_steps"], result["finished"]) == (240, True)
    train(small(run__env_steps=240), tmp_path / "long")
    ours, theirs = final(run), final(tmp_path / "long")
    assert ours.pop("/generation") == 1
    assert ours == theirs
    # Where the short run ended it was evaluated, which the long one was not.
    ended = [line for line in lines(run) if "eval/score" in line and "'env_steps': 120" in line]
    assert len(ended) == 1
    assert [line for line in lines(run) if line not in ended] == lines(tmp_path / "long")


def test_a_length_in_frames_takes_the_place_of_one_in_env_steps(run: Path) -> None:
    assert resume(run, {"run.frames": 160})["env_steps"] == 160
    config = load_config(run)
    assert (config.run.frames, config.run.env_steps) == (160, None)


def test_the_chain_says_what_held_until_when(run: Path) -> None:
    began = load_config(run)
    resume(run, {"run.env_steps": 160, "agent.opt.lr": 5e-4})
    resume(run, {"run.env_steps": 200})
    chain = load_chain(run)
    assert [(past.env_steps, past.run) for past in chain.past] == [(120, None), (160, None)]
    assert chain.past[0].config == began
    assert chain.past[0].versions["torch"] == torch.__version__
    assert chain.lines() == [
        "at 120 env_steps: agent.opt.lr 0.001 -> 0.0005, run.env_steps 120 -> 160",
        "at 160 env_steps: run.env_steps 160 -> 200",
    ]
    assert chain.past[1].learner_steps == (160 - 40) * 2 // 4 + 1
    assert Checkpoints(run).head()["generation"] == 2  # type: ignore[index]


def test_what_made_nothing_is_not_in_the_chain(run: Path) -> None:
    go_on(run, {"run.env_steps": 400, "agent.gamma": 0.5}, crash_at=130)
    go_on(run, {"agent.gamma": 0.6}, crash_at=130)  # from the same checkpoint
    chain = load_chain(run)
    assert chain.lines() == ["at 120 env_steps: agent.gamma 0.99 -> 0.6, run.env_steps 120 -> 400"]
    resume(run, {"run.env_steps": 120, "agent.gamma": 0.99})
    assert load_chain(run).past == ()
    assert "before" not in json.loads((run / "config.json").read_text())


def test_a_change_of_what_is_looked_at_leaves_training_alone(run: Path, tmp_path: Path) -> None:
    whole, other = run, Path(shutil.copytree(run, tmp_path / "other"))
    resume(whole, {"run.env_steps": 200})
    resume(other, {"run.env_steps": 200, "run.eval_every": 40, "run.log_every": 10, "run.keep_checkpoints": 3})
    learner = "/trainer/learner/tensors"
    ours, theirs = final(other), final(whole)
    same = [key for key in theirs if key.startswith((learner, "/store", "/actor", "/env"))]
    assert len(same) > 20
    assert [key for key in same if ours[key] != theirs[key]] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"run.train_ratio": 6.0},
        {"run.train_ratio": 0.5, "run.pretrain": 30},
        {"replay.batch": 8, "run.prefill": 140},
    ],
)
def test_another_pacing_counts_from_there_on(run: Path, changes: dict[str, Any]) -> None:
    before = Checkpoints(run).head()
    assert before is not None
    resume(run, changes | {"run.env_steps": 240})
    config, chain = load_config(run), load_chain(run)
    made = Checkpoints(run).head()["learner_steps"] - before["learner_steps"]  # type: ignore[index]
    rows = (240 - max(120, config.run.prefill)) * (config.run.train_ratio or 0)
    assert abs(made - rows / config.replay.batch) <= 1
    # The first log line after it is not full of what would have been owed from the beginning.
    steps = [record["learner_steps"] for record in read_metrics(run) if record["env_steps"] == 140]
    assert steps[0] - before["learner_steps"] <= 20 * (config.run.train_ratio or 0) / config.replay.batch + 1
    assert chain.since == Length(120, before["learner_steps"])
    assert abs(run_length(config, 1, chain.since).learner_steps - before["learner_steps"] - made) <= 1


def test_random_play_that_was_made_longer_can_be_made_shorter_again(run: Path) -> None:
    before = Checkpoints(run).head()
    assert before is not None
    go_on(run, {"run.prefill": 400, "run.env_steps": 600, "run.checkpoint_every": 20}, crash_at=150)
    at = Checkpoints(run).head()
    assert at is not None
    assert (at["env_steps"], at["learner_steps"]) == (140, before["learner_steps"])  # nothing is learned from 120 on
    resume(run, {"run.prefill": 160, "run.env_steps": 240})
    made = Checkpoints(run).head()["learner_steps"] - before["learner_steps"]  # type: ignore[index]
    ratio = load_config(run).run.train_ratio or 0
    assert abs(made - (240 - 160) * ratio / load_config(run).replay.batch) <= 1
    since = load_chain(run).since
    assert since == Length(140, before["learner_steps"])
    assert abs(run_length(load_config(run), 1, since).learner_steps - before["learner_steps"] - made) <= 1


def test_a_ratio_that_never_changed_is_paced_from_the_beginning(run: Path) -> None:
    resume(run, {"run.env_steps": 160})
    assert load_chain(run).since is None
    assert "/store/pacing/origin" not in final(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"run.train_ratio": 5.0},
        {"run.seed": 7, "run.publish_every": 3},
        {"env.options.mask": [1], "agent.gamma": 0.5, "agent.opt.lr": 1e-5, "agent.opt.lr_over": 0.5},
    ],
)
def test_a_kill_before_the_next_checkpoint_changes_nothing(run: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    resume(twin, changes | {"run.env_steps": 200})
    go_on(run, changes | {"run.env_steps": 200}, crash_at=146)
    resume(run)
    ours, theirs = final(run), final(twin)
    assert [key for key in theirs if ours[key] != theirs[key]] == []
    assert lines(run) == lines(twin)


def test_another_seed_begins_everything_random_anew(run: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    resume(run, {"run.env_steps": 200})
    resume(twin, {"run.env_steps": 200, "run.seed": 1})
    ours, theirs = final(run), final(twin)
    for key in ("/store/replay/generator/state", "/actor/generator", "/env/seed"):
        assert ours[key] != theirs[key], key
    episodes = [r["episode/length"] for r in read_metrics(twin) if r["env_steps"] == 120 and "episode/length" in r]
    assert len(episodes) <= 2  # closing open episodes as time limits is no episode in the log


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("env.num_envs", 4, "a place for each stream"),
        ("env.id", "Acrobot-v1", "another environment is another task"),
        ("replay.window.learn", 2, "laid out for its windows"),
        ("replay.selector", "prioritised", "each selector keeps its own state"),
        ("replay.store.budget", 30_000, "laid out for its size"),
        ("agent.opt.kind", "rmsprop", "moments of its own"),
        ("name", "rainbow", "other networks"),
        ("agent.hidden", 8, "networks have other shapes: policy"),
        ("agent.n_step", 5, "the saved replay has length"),
        ("run.env_steps", 100, "has made 120 env_steps already"),
    ],
)
def test_what_cannot_change_is_said_in_one_line_and_leaves_the_run_as_it_was(
    run: Path, key: str, value: Any, why: str
) -> None:
    def there() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and "tensorboard" not in str(path)
        }

    before = there()
    with pytest.raises(UserError) as caught:
        resume(run, {key: value})
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert there() == before


def test_an_unknown_key_gets_near_names(run: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'agent.gama'; did you mean agent.gamma"):
        resume(run, {"agent.gama": 1})


def test_before_the_first_checkpoint_a_change_is_the_configuration(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    save_chain(Chain(small(), {}), run_dir)
    resume(run_dir, {"agent.gamma": 0.5})
    chain = load_chain(run_dir)
    assert (chain.config.agent.gamma, chain.past) == (0.5, ())


def test_noise_of_another_kind_of_device_goes_on_from_its_state_as_a_seed() -> None:
    """A GPU's generator has 16 bytes of state, a CPU's 5056."""
    state = torch.arange(16, dtype=torch.uint8)
    one, other, third = Noise(0), Noise(1), Noise(0)
    one.restore(state)
    other.restore(state)
    third.restore(state + 1)
    numbers = one.uniform(5)
    assert torch.equal(numbers, other.uniform(5))
    assert not torch.equal(numbers, third.uniform(5))


def command(*words: str) -> Any:
    return CliRunner().invoke(cli, words)


def begun(run_dir: Path, *further: str) -> tuple[str, ...]:
    given = [f"--{key}={value}" for key, value in SMALL.items() if key != "run.env_steps"]
    return ("train", "dqn", "--env", "CartPole-v1", "--logdir", str(run_dir), *given, *further)


def test_a_train_command_for_more_says_which_command_goes_on_and_that_works(run: Path) -> None:
    refused = command(*begun(run, "--env_steps", "200"))
    assert refused.exit_code == 2
    assert f"reverie resume {run} --run.env_steps=200, as it is by" in refused.stderr
    done = command("resume", str(run), "--run.env_steps=200")
    assert done.exit_code == 0, done.output
    assert "env_steps    200" in done.stdout
    assert command("resume", str(run), "--env_steps", "220").exit_code == 0
    assert command("resume", str(run), "--env_steps", "240", "--frames", "3").exit_code == 2


def test_a_run_from_a_gpu_goes_on_without_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = json.loads((run / "config.json").read_text())
    config["config"]["run"] |= {"device": "cuda", "env_steps": 160}
    (run / "config.json").write_text(json.dumps(config))
    alone = command("resume", str(run))
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    assert alone.stderr.rstrip().endswith("use --device cpu")
    again = command(*begun(run, "--env_steps", "160", "--device", "cpu"))
    assert again.exit_code == 2
    assert f"reverie resume {run} --run.device=cpu" in again.stderr
    done = command("resume", str(run), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert differences(load_chain(run).past[0].config, load_config(run)) == {"run.device": ("cuda", "cpu")}
