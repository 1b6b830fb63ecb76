"""DRQN and R2D2: losses, priorities and drift against slow loops under all start states; identities with parents."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from reverie import overrides
from reverie.agents.agent import Noise, Tape
from reverie.agents.r2d2 import R2D2Config
from reverie.agents.recurrent import start_state
from reverie.data.replay import Replay
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets import torsos
from reverie.nets.cores import FrameStack
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets import make_config
from reverie.run.local import Local
from tests.agents.value import (
    IMAGE,
    VECTOR,
    batch,
    decide,
    disturb,
    losses,
    make,
    same_parameters,
    slow_n_step,
    slow_values,
)

STRATEGIES = [{"state": state, "context": context} for state in ("zero", "stored") for context in (0, 4)]


def h(x: float) -> float:
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + 1e-3 * x


def h_inverse(y: float) -> float:
    inner = (math.sqrt(1 + 4e-3 * (abs(y) + 1 + 1e-3)) - 1) / 2e-3
    return math.copysign(inner**2 - 1, y)


def unrolled(policy: Any, learner: Any, data: Batch, b: int) -> torch.Tensor:
    """Values of every row of window b; rows that only fill a stack are nan."""
    stored = data.start is not None
    state = data.start if stored else policy.initial_state(5)
    lookback = 0 if stored else min(policy.lookback, learner.windows.context)
    return slow_values(policy, data.rows, state, b, lookback, None if stored else 0)


def slow_r2d2(learner: Any, data: Batch) -> tuple[float, list[float]]:
    """Loss and priorities, one row after another, with the textbook forms of h and its inverse."""
    config, spec, rows = learner.config, learner.windows, data.rows
    weights = [float(p) ** -config.beta for p in data.probabilities]
    total, priorities = 0.0, []
    for b in range(5):
        online, target = unrolled(learner.policy, learner, data, b), unrolled(learner.target, learner, data, b)
        errors = []
        for t in range(spec.context, spec.context + spec.learn):
            if rows["is_last"][t, b]:
                continue
            earned, discount, i = slow_n_step(rows, t, b, config)
            best = int(online[i].argmax())
            error = h(earned + discount * h_inverse(float(target[i, best]))) - float(online[t, rows["action"][t, b]])
            errors.append(abs(error))
            total += weights[b] / max(weights) * 0.5 * error**2 / 5
        mean = sum(errors) / max(len(errors), 1)
        priorities.append(0.9 * max(errors, default=0.0) + 0.1 * mean)
    return total, priorities


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s['state']}-{s['context']}")
@pytest.mark.parametrize("env", [IMAGE, VECTOR], ids=["image", "vector"])
@torch.no_grad()
def test_r2d2_is_the_slow_one_under_every_start_state(strategy: dict[str, Any], env: Any) -> None:
    learner = make("r2d2", env, {"learn": 6, "period": 2, **strategy}, units=5, stack=3, n_step=3)
    disturb(learner)
    for seed in range(2):
        data = batch(learner, seed=seed, ends=0.1)
        loss, priorities = losses(learner, data)
        expected, slow = slow_r2d2(learner, data)
        # The textbook inverse of h loses digits near 0 even in double precision.
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert priorities.tolist() == pytest.approx(slow, rel=1e-4)


@torch.no_grad()
def test_drqn_is_the_slow_one() -> None:
    """Huber's loss of clipped one-step errors, mean over all valid rows of the batch."""
    learner = make("drqn", IMAGE, {"learn": 6}, units=5)
    disturb(learner)
    data = batch(learner, ends=0.2)
    rows, total, count = data.rows, 0.0, 0
    weights = [float(p) ** -0.4 for p in data.probabilities]
    for b in range(5):
        online, target = unrolled(learner.policy, learner, data, b), unrolled(learner.target, learner, data, b)
        for t in range(6):
            if rows["is_last"][t, b]:
                continue
            r = float(rows["reward"][t + 1, b])
            y = (r > 0) - (r < 0) + 0.99 * float(target[t + 1].max()) * (not rows["is_terminal"][t + 1, b])
            error = abs(y - float(online[t, rows["action"][t, b]]))
            total += weights[b] / max(weights) * (0.5 * error**2 if error <= 1 else error - 0.5)
            count += 1
    assert losses(learner, data)[0].item() == pytest.approx(total / count, rel=1e-4)


def test_sequence_priority_by_hand() -> None:
    """Errors 0, 1, 2, 3: 0.9 * 3 + 0.1 * 1.5; a row without an action counts in neither."""
    learner = make("r2d2", VECTOR, {"learn": 5}, units=4)
    error = torch.tensor([[0.0, 0.0], [1.0, -1.0], [-2.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    valid = torch.tensor([[True, True], [True, True], [True, True], [True, True], [False, True]])
    assert learner.bellman.priorities(error, valid).tolist() == pytest.approx([2.85, 2.7 + 0.12])


def test_whole_episodes_train_the_first_one_only() -> None:
    learner = make("drqn", VECTOR, {"learn": 5}, units=4, whole_episodes=True)
    last = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool).t()
    assert learner.bellman.trained({"is_last": last}, 5).t().tolist() == [[True, True, False, False, False], [True] * 5]


@pytest.mark.parametrize(
    ("spec", "settings", "rows"),
    [({"context": 4}, {}, 4), ({}, {"stack": 3}, 2), ({"context": 1, "state": "stored"}, {"stack": 3}, 1)],
)
def test_whole_episodes_have_no_context_rows(spec: dict[str, Any], settings: dict[str, Any], rows: int) -> None:
    """Those would never be trained, and an episode that ends among them would hide its end."""
    with pytest.raises(ValueError, match=f"but {rows} rows are context; set replay.window.context to 0"):
        make("drqn", IMAGE, {"learn": 5, **spec}, units=4, whole_episodes=True, **settings)
    make("drqn", IMAGE, {"learn": 5, "state": "stored"}, units=4, whole_episodes=True, stack=3)


# Identities


def updates_agree(one: Any, other: Any, data: list[Batch], other_data: list[Batch]) -> None:
    same_parameters(one, other)
    for mine, theirs in zip(data, other_data, strict=True):
        first, second = one.update(mine), other.update(theirs)
        assert first.metrics["q_loss"].item() == pytest.approx(second.metrics["q_loss"].item(), rel=1e-5)
        assert torch.allclose(first.feedback.priorities, second.feedback.priorities, rtol=1e-4, atol=1e-6)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-3, atol=2e-5)


def test_drqn_whose_memory_is_a_frame_stack_is_stacked_dqn() -> None:
    plain = make("dqn", IMAGE, stack=4, target_every=2)
    recurrent = make("drqn", IMAGE, {"learn": 1}, core="none", hidden=8, stack=4, target_every=2)
    assert recurrent.windows == plain.windows
    disturb(plain)
    data = [batch(plain, seed=seed) for seed in range(4)]
    for one in data:  # a mean over valid rows instead of over windows
        one.rows["is_last"][plain.windows.context] = False
    updates_agree(plain, recurrent, data, data)


def test_stored_frames_are_context_rows() -> None:
    """A frame stack's stored state is known exactly: starting from it equals k - 1 rows of context."""
    zero, stored = make("dqn", IMAGE, stack=3), make("dqn", IMAGE, {"state": "stored"}, stack=3)
    assert (zero.windows.context, stored.windows.context) == (2, 0)
    data = batch(zero, ends=0.3)
    state = zero.policy.look(zero.policy.initial_state(5), {name: value[:2] for name, value in data.rows.items()})
    short = replace(data, rows={name: value[2:] for name, value in data.rows.items()}, start=state)
    updates_agree(zero, stored, [data], [short])


def test_neutral_r2d2_is_double_dqn() -> None:
    """No recurrence, no context, one learned row, no rescaling; errors below 1, where Huber's loss is the square."""
    neutral: dict[str, Any] = {"core": "none", "feed": False, "rescaling": None, "dueling": False, "beta": 0.4}
    neutral |= {"gamma": 0.99, "n_step": 3, "target_every": 2, "actor_priorities": False, "stack": 2}
    config = OptimConfig(lr=1e-3, eps=1e-3)
    parent = make("dqn", IMAGE, double=True, n_step=3, target_every=2, stack=2, reward="identity", opt=config)
    child = make("r2d2", IMAGE, {"learn": 1}, opt=config, **neutral)
    assert parent.windows == child.windows
    with torch.no_grad():
        for parameter in [*parent.policy.parameters()]:
            parameter.mul_(0.5)
    parent.target.load_state_dict(parent.policy.state_dict())
    data = []
    for seed in range(4):
        one = batch(parent, seed=seed)
        one.rows["reward"].mul_(0.1)
        data.append(one)
    updates_agree(parent, child, data, data)


# What the actor stored


@dataclass(frozen=True)
class Acted:
    """A learner without any update, and the replay that an actor with its policy has filled."""

    learner: Any
    replay: Replay


def acted(tmp_path: Path, env_steps: int = 300, **changes: Any) -> Acted:
    """The only place here that knows how a run is put together."""
    settings = {
        "env.num_envs": 3,
        "env.options": {"length": 20, "pixels": True, "size": 12},
        "agent.units": 6,
        "agent.hidden": 6,
        "agent.torso.channels": [2, 3, 3],
        "agent.torso.dense": 6,
        "agent.stack": 2,
        "replay.window.context": 4,
        "replay.window.learn": 8,
        "replay.window.period": 4,
        "replay.window.state": "stored",
        "replay.window.drift": True,
        "run.prefill": 100,
    }
    run = Local(overrides.apply(make_config("r2d2", "cpu-toy", "toy/tmaze"), settings | changes), tmp_path / "run")
    run.run.episodes = lambda *ended: None  # type: ignore[method-assign]  # nothing is logged
    run.actor.start()
    while run.run.clock.env_steps < env_steps:
        run.act()
    return Acted(run.learner, run.store.replay)


def test_unrolling_what_was_stored_gives_the_actors_values(tmp_path: Path) -> None:
    """Through random actions, epsilon, ends of episodes, with frames, previous actions and rewards: every row."""
    run = acted(tmp_path)
    learner = run.learner
    data = run.replay.sample(40)
    assert data.rows["is_first"].any()
    tape = Noise(0).tape(*data.rows["reward"].shape, learner.policy.noise)
    with torch.no_grad():
        state, rows = start_state(learner.policy, data, learner.windows, tape)
        outputs, _ = learner.policy.unroll(state, rows, tape[learner.windows.context :])
    known = ~rows["is_last"]  # closing rows never reach the policy: their extras are zeros
    assert torch.allclose(outputs[known], rows["extra.q"][known], atol=1e-5)
    assert outputs.std() > 1e-3


def test_drift_is_zero_while_parameters_stay_and_states_are_stored(tmp_path: Path) -> None:
    stored = acted(tmp_path / "stored")
    metrics = stored.learner.update(stored.replay.sample(64)).metrics
    assert metrics["drift_first"] < 1e-4
    assert metrics["drift_last"] < 1e-4
    later = stored.learner.update(stored.replay.sample(64)).metrics
    assert later["drift_first"] > 1e-4
    zero = acted(tmp_path / "zero", **{"replay.window.state": "zero", "replay.window.context": 0, "agent.stack": 1})
    metrics = zero.learner.update(zero.replay.sample(64)).metrics
    assert metrics["drift_first"] > 1e-3


def test_first_row_of_a_stored_window_without_burn_in_cannot_drift(tmp_path: Path) -> None:
    """By construction, whatever the parameters are now."""
    run = acted(tmp_path, **{"replay.window.context": 0})
    for _ in range(4):
        metrics = run.learner.update(run.replay.sample(32)).metrics
        assert metrics["drift_first"] < 1e-5
    assert metrics["drift_last"] > 1e-4


def test_drift_is_the_slow_one(tmp_path: Path) -> None:
    """dQ by single steps from the actor's state and from the learner's, at rows 4 and 12 of windows 4 + 8 + 3."""
    run = acted(tmp_path)
    learner = run.learner
    assert learner.windows == SequenceSpec(4, 8, 3, 4, "stored", True)
    assert learner.windows.probes == (4, 12)
    disturb(learner)
    with torch.no_grad():
        for parameter in learner.policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    data = run.replay.sample(5)
    data = replace(data, rows={name: value.clone() for name, value in data.rows.items()})
    assert data.probes is not None
    found: dict[str, torch.Tensor] = {}
    before = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    steps = learner.losses(data, found)
    next(steps)
    learner.policy.load_state_dict(before)
    expected: list[list[float]] = [[], []]
    with torch.no_grad():
        for b in range(5):
            here = unrolled(learner.policy, learner, data, b)
            for k, row in enumerate(learner.windows.probes):
                if data.rows["is_first"][1 : row + 1, b].any():
                    continue
                one = {name: value[row, b : b + 1] for name, value in data.rows.items()}
                state = {name: value[k, b : b + 1] for name, value in data.probes.items()}
                q = decide(learner.policy, one, torch.zeros(1, 2), state=state).extras["q"][0]
                expected[k].append(float((here[row] - q).norm() / here[4:12].max().abs()))
    assert expected[0]
    for name, values in zip(("drift_first", "drift_last"), expected, strict=True):
        assert found[name].item() == pytest.approx(sum(values) / max(len(values), 1), rel=1e-3, abs=1e-6)


def test_actors_priorities_are_what_the_first_update_would_find(tmp_path: Path) -> None:
    """With unchanged parameters and target = online, the learner's errors are the actor's."""
    run = acted(tmp_path)
    data = run.replay.sample(30)
    tree = run.replay.selector.tree  # type: ignore[attr-defined]
    given = (data.probabilities.double() * tree.total()) ** (1 / 0.9)
    _, found = losses(run.learner, data)
    assert torch.allclose(given.float(), found, rtol=1e-3, atol=1e-5)
    assert found.std() > 1e-3


def test_each_row_passes_each_network_once() -> None:
    learner = make("r2d2", IMAGE, {"context": 4, "learn": 8, "state": "stored"}, units=5, n_step=3)
    for policy, rows in ((learner.policy, [4, 8, 3]), (learner.target, [4, 11])):
        seen: list[int] = []
        handle = policy.network.torso.cnns[0].register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(len(args[0]))
        )
        learner.update(batch(learner))
        handle.remove()
        assert seen == [5 * n for n in rows]


@pytest.mark.parametrize("state", ["zero", "stored"])
def test_images_are_stacked_and_turned_to_floats_once_for_both_networks(
    state: Literal["zero", "stored"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rows before them, which are in no convolution, are not."""
    learner = make("r2d2", IMAGE, {"context": 4, "learn": 8, "state": state}, units=5, n_step=3, stack=3)
    stacked, floated = [], []
    stack, to_floats = FrameStack.unroll, torsos.floats

    def unroll(self: FrameStack, *given: torch.Tensor) -> Any:
        stacked.append(len(given[1]))
        return stack(self, *given)

    def floats(image: torch.Tensor) -> torch.Tensor:
        if image.dtype == torch.uint8:
            floated.append(len(image))
        return to_floats(image)

    monkeypatch.setattr(FrameStack, "unroll", unroll)
    monkeypatch.setattr(torsos, "floats", floats)
    learner.update(batch(learner))
    assert stacked == [15]
    assert floated == [15]


@pytest.mark.parametrize("standardise", [False, True])
def test_prepared_rows_are_read_as_bytes_are(standardise: bool) -> None:
    torso = TorsoConfig((3, 4, 4), standardise=standardise)
    learner = make("r2d2", IMAGE, {"learn": 8, "state": "stored"}, units=5, stack=3, torso=torso)
    data = batch(learner, ends=0.2)
    learner.policy.network.torso.adapt({"image": data.rows["obs.image"]})
    tape = Tape(torch.zeros(*data.rows["reward"].shape, 2))
    expected, after = learner.policy.unroll(data.start, data.rows, tape)
    state, rows = learner.policy.prepare(data.start, data.rows)
    assert rows["obs.image"].shape == (*data.rows["obs.image"].shape[:-1], 3)
    found, last = learner.policy.unroll(state, rows, tape)
    assert torch.equal(found, expected)
    assert set(last) == {"core.hidden", "core.cell"}
    assert all(torch.equal(last[name], after[name]) for name in last)


def test_burn_in_keeps_no_gradient() -> None:
    learner = make("r2d2", IMAGE, {"context": 4, "learn": 8, "state": "stored"}, units=5)
    data = batch(learner)
    state, _ = start_state(learner.policy, data, learner.windows, Tape(torch.zeros(17, 5, 2)))
    assert not any(value.requires_grad for value in state.values())


def test_memory_reads_no_previous_action_or_reward_at_first_rows() -> None:
    learner = make("r2d2", VECTOR, {"learn": 3}, units=5)
    rows = {name: value.clone() for name, value in batch(learner).rows.items()}
    rows["is_first"][:] = True
    tape = Tape(torch.zeros(*rows["reward"].shape, 2))
    before, _ = learner.policy.unroll(learner.policy.initial_state(5), rows, tape)
    rows["prev_action"][:] = 2
    rows["reward"][:] = float("nan")
    after, _ = learner.policy.unroll(learner.policy.initial_state(5), rows, tape)
    assert torch.equal(before, after)
    rows["reward"][:] = 1.0
    rows["is_first"][:] = False
    fed, _ = learner.policy.unroll(learner.policy.initial_state(5), rows, tape)
    assert not torch.allclose(before, fed)


def test_the_network_is_the_published_one() -> None:
    """Table 2 and section 2.3: LSTM of 512 units fed with action and reward, dueling streams of 512."""
    learner = make("r2d2", IMAGE, {"learn": 1}, **{"torso": R2D2Config().torso, "hidden": R2D2Config().hidden})
    network = learner.policy.network
    assert network.core.cell.weight_ih.shape == (4 * 512, 512 + 3 + 1)
    assert network.head.value[0].weight.shape == network.head.advantage[0].weight.shape == (512, 512)
    config = R2D2Config()
    assert (config.n_step, config.gamma, config.target_every, config.eta, config.beta) == (5, 0.997, 2500, 0.9, 0.6)
    assert (config.opt.lr, config.opt.eps, config.opt.clip, config.rescaling) == (1e-4, 1e-3, 40.0, 1e-3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="rescaling must be positive or none"):
        R2D2Config(rescaling=0.0)
    with pytest.raises(ValueError, match="eta must be in"):
        R2D2Config(eta=1.5)
    with pytest.raises(ValueError, match="is of an lstm, but core is gru"):
        R2D2Config(core="gru", forget_bias=3.0)


def test_forget_bias_reaches_the_core() -> None:
    cells = [make("r2d2", VECTOR, {"learn": 1}, forget_bias=bias).policy.network.core.cell for bias in (0.0, 3.0)]
    units = cells[0].hidden_size
    means = [cell.bias_ih[units : 2 * units].mean().item() for cell in cells]
    assert means[0] == pytest.approx(0.0, abs=0.5)
    assert means[1] == pytest.approx(3.0, abs=0.5)
