"""One network for several tasks: each row has its own task's value, statistics and scale; nobody acts by the task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.data.sequences import Batch
from tests.agents.actor_critics import ENTRIES, VECTOR, batch, decide, loss_of, make, recipe

TASKS = replace(VECTOR, observation={**ENTRIES, "task": spaces.Discrete(2)}, tasks=("a", "b"))
WINDOWS = 6
OF = torch.arange(WINDOWS) % 2
"""The task of each window."""


def of_tasks(data: Batch, task: Tensor = OF) -> Batch:
    time = len(data.rows["reward"])
    return replace(data, rows={**data.rows, "obs.task": task.expand(time, -1).clone()})


def of_one(data: Batch, task: int) -> Batch:
    """The windows of a task, for a learner that knows no other."""
    mine = task == OF
    rows = {name: value[:, mine] for name, value in data.rows.items() if name != "obs.task"}
    parts = {name: getattr(data, name)[mine] for name in ("keys", "probabilities", "ages")}
    return replace(data, rows=rows, **parts)


def alone(learner: Any, task: int, **changes: Any) -> Any:
    """A learner of one task with the same networks, whose value is that task's."""
    single = make("impala", VECTOR, **changes)
    state = learner.policy.state_dict()
    for name in list(state):
        if name.startswith("critic."):
            state[name] = state[name][task : task + 1]
    single.policy.load_state_dict(state)
    return single


@pytest.mark.parametrize("popart", [False, True], ids=["plain", "popart"])
@pytest.mark.parametrize("core", ["none", "lstm"])
def test_the_loss_is_the_sum_of_what_each_task_alone_has(popart: bool, core: str) -> None:
    changes = {"popart": popart, "popart_step": 0.1, "average": "sum", "core": core}
    learner = make("impala", TASKS, **changes)
    with torch.no_grad():
        learner.policy.critic.out.bias.copy_(torch.tensor([1.0, -20.0]))
    data = of_tasks(batch(learner, WINDOWS, seed=1))
    data.rows["reward"] = torch.where(OF == 1, 100.0, 1.0) * data.rows["reward"]
    singles = [alone(learner, task, **changes) for task in (0, 1)]
    total = loss_of(learner, data)
    each = [loss_of(single, of_one(data, task)) for task, single in enumerate(singles)]
    assert total.item() == pytest.approx(sum(one.item() for one in each), rel=1e-4)
    for task, single in enumerate(singles):
        for name, value in single.policy.critic.state_dict().items():
            torch.testing.assert_close(learner.policy.critic.state_dict()[name][task], value[0], rtol=1e-5, atol=1e-6)
    wrong = loss_of(make_same(**changes), of_tasks(data, 1 - OF))
    assert wrong.item() != pytest.approx(total.item(), rel=0.01)


def make_same(**changes: Any) -> Any:
    """Another learner of both tasks, as the first was before it looked at targets."""
    other = make("impala", TASKS, **changes)
    with torch.no_grad():
        other.policy.critic.out.bias.copy_(torch.tensor([1.0, -20.0]))
    return other


def test_targets_of_a_task_touch_nothing_of_another() -> None:
    learner = make("impala", TASKS, popart=True, popart_step=0.1, average="sum")
    before = {name: value.clone() for name, value in learner.policy.critic.state_dict().items()}
    loss_of(learner, of_tasks(batch(learner, WINDOWS), torch.ones(WINDOWS, dtype=torch.int64)))
    for name, value in learner.policy.critic.state_dict().items():
        assert torch.equal(value[0], before[name][0]), name
        assert not torch.equal(value[1], before[name][1]), name


def test_advantages_of_each_task_are_in_its_own_scale() -> None:
    """Rewards a hundred times as large move the policy no more than others, once they are known."""
    learner = make("impala", TASKS, popart=True, popart_step=0.5, average="sum", entropy=0.0, value=0.0)
    sizes = []
    for task, scale in ((0, 1.0), (1, 100.0)):
        data = of_tasks(batch(learner, WINDOWS), torch.full((WINDOWS,), task))
        data.rows["reward"] = scale * data.rows["reward"]
        loss_of(learner, data)  # its targets are taken in
        learner.policy.zero_grad()
        loss_of(learner, data).backward()
        sizes.append(learner.policy.actor.weight.grad.norm().item())
    assert sizes[1] / sizes[0] < 3


@pytest.mark.parametrize("agent", ["a2c", "impala"])
def test_nobody_acts_by_the_task(agent: str) -> None:
    policy = recipe(agent, TASKS).policy()
    rows = {name: value[0] for name, value in of_tasks(batch(make("impala", TASKS), WINDOWS)).rows.items()}
    u = torch.rand(WINDOWS, policy.noise)
    decisions = [decide(policy, {**rows, "obs.task": task}, u) for task in (OF, 1 - OF)]
    assert torch.equal(decisions[0].action, decisions[1].action)
    assert torch.equal(decisions[0].extras["log_prob"], decisions[1].extras["log_prob"])
    assert "task" not in policy.body.torso.vectors
    assert policy.critic.out.out_features == 2


def test_popart_tells_each_tasks_statistics() -> None:
    learner = make("impala", TASKS, popart=True, popart_step=0.1)
    metrics: dict[str, Tensor] = {}
    loss_of(learner, of_tasks(batch(learner, WINDOWS)), metrics)
    means = [metrics[f"popart_mean_{k}"] for k in (0, 1)]
    assert torch.stack(means).tolist() == learner.policy.critic.mean.tolist()
    assert metrics["popart_mean"].item() == pytest.approx(float(sum(means)) / 2)
