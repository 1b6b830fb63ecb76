"""Munchausen, written outside the package: target by hand, losses against slow loops, with and without a memory."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.nets.q_heads import Reads
from reverie.ops.n_step import NStep
from tests.agents.value import IMAGE, VECTOR, batch, disturb, go_on, losses, make, slow_values

PLAIN, MEMORY = "munchausen:MunchausenDQN", "munchausen_memory:MunchausenDRQN"
FOLDER = Path(__file__).parents[1] / "third_party"


def lines_of_code(path: Path) -> int:
    """Lines that are neither empty nor of a docstring nor a comment."""
    text = path.read_text()
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in prose for n, line in lines)


@pytest.mark.parametrize("name", ["munchausen.py", "munchausen_memory.py"])
def test_it_takes_forty_lines(name: str) -> None:
    assert lines_of_code(FOLDER / name) <= 40


def log_policy(q: list[float], tau: float) -> list[float]:
    """tau log softmax(q / tau), term by term from the differences to the best."""
    best = max(q)
    total = sum(math.exp((each - best) / tau) for each in q)
    return [each - best - tau * math.log(total) for each in q]


def slow_target(
    here: list[float], action: int, ahead: list[float], reward: float, discount: float, config: Any
) -> float:
    bonus = config.alpha * min(max(log_policy(here, config.tau)[action], config.low), 0.0)
    logs = log_policy(ahead, config.tau)
    soft = sum(math.exp(each / config.tau) * (q - each) for q, each in zip(ahead, logs, strict=True))
    return reward + bonus + discount * soft


def test_targets_by_hand() -> None:
    """tau = 1/2, alpha = 1/2, low = -1; pi(o') of (0, ln 2 / 2) is (1/3, 2/3), of (0, 0, 3): next to nothing, ..., 1.

    The soft value of the first is tau ln(1 + 2) = 0.549; tau log pi of the taken action 0 of three is -ln 3 / 2 where
    all are equal, and below -1 beside an action that is 9 better, where it is clipped. An end has no soft value.
    """
    agent = make(PLAIN, VECTOR, alpha=0.5, tau=0.5, low=-1.0)
    ahead = torch.tensor([0.0, math.log(2) / 2, -90.0]).expand(1, 3, 3)
    here = torch.tensor([[[4.0, 4.0, 4.0], [0.0, 9.0, 0.0], [4.0, 4.0, 4.0]]])
    steps = NStep(torch.full((1, 3), 2.0), torch.tensor([[0.9, 0.9, 0.0]]), torch.ones(1, 3, dtype=torch.int64))
    target = agent.head.target(Reads(ahead, None, here, torch.zeros(1, 3, dtype=torch.int64)), steps)
    soft, equal = 0.5 * math.log(3), -0.5 * math.log(3)
    assert target[0].tolist() == pytest.approx([2 + 0.5 * equal + 0.9 * soft, 2 - 0.5 + 0.9 * soft, 2 + 0.5 * equal])


def test_differences_that_exponentials_cannot_hold() -> None:
    """At tau = 0.03 values of 50 and 0 are exp(1667) apart: the best action's value and no bonus; else the clip."""
    agent = make(PLAIN, VECTOR)
    q = torch.tensor([50.0, 0.0, -50.0]).expand(1, 2, 3)
    steps = NStep(torch.ones(1, 2), torch.full((1, 2), 0.5), torch.ones(1, 2, dtype=torch.int64))
    target = agent.head.target(Reads(q, None, q, torch.tensor([[0, 1]])), steps)
    assert target[0].tolist() == pytest.approx([1 + 0.5 * 50, 1 - 0.9 + 0.5 * 50])


def test_without_bonus_and_temperature_it_is_dqn() -> None:
    """The limit of small tau is the maximum."""
    agent, parent = make(PLAIN, VECTOR, {"learn": 3}, alpha=0.0, tau=1e-6), make("dqn", VECTOR, {"learn": 3})
    disturb(parent)
    agent.policy.load_state_dict(parent.policy.state_dict())
    agent.target.load_state_dict(parent.target.state_dict())
    data = batch(agent, ends=0.3)
    for one, other in zip(losses(agent, data), losses(parent, data), strict=True):
        assert torch.allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("env", [IMAGE, VECTOR], ids=["image", "vector"])
@pytest.mark.parametrize(
    ("name", "spec", "settings"),
    [
        (PLAIN, {"learn": 1}, {"stack": 3}),
        (PLAIN, {"learn": 4}, {"reward": "identity"}),
        (MEMORY, {"learn": 6}, {"units": 5}),
        (MEMORY, {"learn": 6, "context": 3, "state": "stored"}, {"units": 5, "stack": 2, "feed": True}),
    ],
    ids=["rows", "windows", "memory", "stored"],
)
@torch.no_grad()
def test_losses_are_the_slow_ones(name: str, spec: dict[str, Any], settings: dict[str, Any], env: Any) -> None:
    """Huber's loss: summed over a window and averaged over windows; with a memory, mean over all rows."""
    # Untrained values are so close that at 0.03 every policy would be nearly uniform.
    learner = make(name, env, spec, tau=0.3, **settings)
    disturb(learner)
    config, windows = learner.config, learner.windows
    for seed in range(2):
        data = batch(learner, seed=seed, ends=0.2)
        rows = data.rows
        weights = [float(p) ** -config.beta for p in data.probabilities]
        total, valid = 0.0, 0
        for b in range(5):
            stored = data.start is not None
            state = data.start if stored else learner.policy.initial_state(5)
            lookback = 0 if stored or name == PLAIN else min(learner.policy.lookback, windows.context)
            online, older = (
                slow_values(policy, rows, state, b, lookback, None if stored else 0)
                for policy in (learner.policy, learner.target)
            )
            for t in range(windows.context, windows.context + windows.learn):
                if rows["is_last"][t, b]:
                    continue
                reward, action = float(rows["reward"][t + 1, b]), int(rows["action"][t, b])
                reward = reward if config.reward == "identity" else (reward > 0) - (reward < 0)
                discount = config.gamma * (not rows["is_terminal"][t + 1, b])
                here = older[t].tolist()
                target = slow_target(here, action, older[t + 1].tolist(), reward, discount, config)
                error = abs(target - float(online[t, action]))
                total += weights[b] / max(weights) * (0.5 * error**2 if error <= 1 else error - 0.5)
                valid += 1
        assert losses(learner, data)[0].item() == pytest.approx(total / (5 if name == PLAIN else valid), rel=1e-4)


@pytest.mark.parametrize("name", [PLAIN, MEMORY])
def test_it_is_saved_and_goes_on_like_any_other(name: str) -> None:
    settings = {"target_every": 2} | ({"units": 5} if name == MEMORY else {})
    go_on(name, make(name, **settings), **settings)


def test_steps_and_choices_that_it_does_not_have_are_refused() -> None:
    for settings in ({"n_step": 3}, {"double": True}, {"dueling": True}):
        with pytest.raises(ValueError, match="n_step = 1, and is neither double nor dueling"):
            make(PLAIN, **settings)
        with pytest.raises(ValueError, match="n_step = 1, and is neither double nor dueling"):
            make(MEMORY, **settings)


def test_with_a_memory_all_that_is_no_munchausen_is_drqns() -> None:
    learner = make(MEMORY, VECTOR)
    assert (learner.config.stack, learner.config.alpha, learner.config.units) == (1, 0.9, 512)
    assert [type(each).__name__ for each in (learner, learner.bellman)] == ["DRQNLearner", "DRQNBellman"]
