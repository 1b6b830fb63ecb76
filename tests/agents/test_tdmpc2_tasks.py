"""TD-MPC2 of several tasks: embeddings, masks and discounts by hand, losses against a slow loop, plans of each task."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Seat, Tape
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.latent_policy import LATENT, Foresight
from reverie.agents.noise import Noise
from reverie.agents.plan import PlanConfig, plan, plan_noise
from reverie.agents.plan_worth import imagined_returns
from reverie.agents.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Learner
from reverie.agents.tdmpc2_sizes import SIZES
from reverie.data.rows import TASK
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.nets.actions import ContinuousActions
from reverie.nets.task_table import TaskTable
from tests.agents.test_capture import on_gpu, outcome, same
from tests.agents.test_static import WAITING, Watch
from tests.agents.test_tdmpc2 import (
    ACTION,
    CONFIG,
    IMAGE,
    VECTOR,
    array,
    batch,
    critic,
    cross_entropy,
    disturb,
    make,
    mean,
    net,
    softplus,
)

OBSERVATION = {**VECTOR.observation, "task": spaces.Discrete(3)}
TASKS = replace(VECTOR, observation=OBSERVATION, tasks=("a", "b", "c"), widths=(1, 2, 1))
SEARCH = PlanConfig(horizon=3, iterations=2, candidates=10, elites=4, policy_candidates=3)
THREE = replace(CONFIG, plan=SEARCH, task_size=4, episode_lengths=(100, 200, 1000))
GAMMAS = (0.95, 0.975, 0.995)
WIDTHS = (1, 2, 1)


def made(config: TDMPC2Config = THREE, env: EnvSpec = TASKS, **changes: Any) -> TDMPC2Learner:
    learner = make(replace(config, **changes), env)
    disturb(learner)
    assert learner.policy.model.tasks is not None
    learner.policy.model.tasks.bound()
    return learner


def of_tasks(learner: TDMPC2Learner, width: int = 6, seed: int = 0, ends: float = 0.25) -> Batch:
    """Windows of the tasks in turn, whose actions are padded."""
    data = batch(learner, width, seed, ends)
    task = (torch.arange(width) % 3).expand(learner.windows.length, -1).clone()
    wide = torch.tensor(WIDTHS)[task] > torch.arange(2).view(2, 1, 1)
    masked = {name: data.rows[name] * wide.movedim(0, -1) for name in ("action", "prev_action")}
    return replace(data, rows={**data.rows, **masked, "obs.task": task})


# By hand


def test_a_table_by_hand() -> None:
    """An embedding of norm 5 comes back to norm 1, one of norm 1/2 stays; what a task has no action for is masked."""
    table = TaskTable(2, (1, 3), 3, (0.95, 0.99))
    assert table.embedding.abs().max() <= 0.02
    with torch.no_grad():
        table.embedding.copy_(torch.tensor([[3.0, -4.0], [0.3, 0.4]]))
    table.bound()
    task = torch.tensor([[0, 1], [1, 1]])
    torch.testing.assert_close(
        table.embed(task), torch.tensor([[[0.6, -0.8], [0.3, 0.4]], [[0.3, 0.4], [0.3, 0.4]]]), rtol=0, atol=1e-6
    )
    assert table.masks(task[0]).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert table.widths(task).tolist() == [[1, 3], [3, 3]]
    assert table.gammas(task[0]).tolist() == pytest.approx([0.95, 0.99])
    # The same as the lookups of PyTorch with max_norm, which scale what they look up.
    theirs = torch.nn.Embedding(2, 2, max_norm=1.0)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([[3.0, -4.0], [0.3, 0.4]]))
    assert torch.equal(theirs(task), table.embed(task))
    with pytest.raises(ValueError, match="a gamma per task and widths of at most 3"):
        TaskTable(2, (1, 4), 3, (0.9, 0.9))


def test_each_task_has_the_discount_of_its_episodes() -> None:
    assert CONFIG.gammas(2) == [0.95, 0.95]
    assert THREE.gammas(3) == pytest.approx(GAMMAS)
    with pytest.raises(ValueError, match="episode_lengths has 3 lengths for 2 environments"):
        THREE.gammas(2)
    table = made().policy.model.tasks
    assert table is not None
    assert table.gamma.tolist() == pytest.approx(GAMMAS)
    assert table.mask.tolist() == [[1, 0], [1, 1], [1, 0]]


def test_the_prior_of_a_task_by_hand() -> None:
    """Noise of one std: a = tanh(m + s) where there is an action, 0 elsewhere; log N counts what there is.

    The prior's outputs are m = 0.5, -0.25 and x = 0, so that log s = -10 + 6 = -4 and log N = -1/2 + 4 - log(2 pi)/2.
    """
    model = made().policy.model
    with torch.no_grad():
        model.prior[-1].weight.zero_()
        model.prior[-1].bias.copy_(torch.tensor([0.5, -0.25, 0.0, 0.0]))
    u = torch.full((3, 2), float(torch.special.ndtr(torch.tensor(1.0))))
    action, log_prob = model.act(torch.rand(3, 8), u, torch.arange(3))
    one, two = math.tanh(0.5 + math.exp(-4)), math.tanh(-0.25 + math.exp(-4))
    each = -0.5 + 4.0 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(action, torch.tensor([[one, 0.0], [one, two], [one, 0.0]]))
    assert action[[0, 2], 1].tolist() == [0.0, 0.0]
    torch.testing.assert_close(log_prob, torch.tensor([each, 2 * each, each]), rtol=1e-4, atol=1e-4)


def test_the_networks_read_latent_embedding_and_action_in_that_order() -> None:
    learner = made()
    model, table = learner.policy.model, learner.policy.model.tasks
    assert table is not None
    z, a, task = torch.rand(2, 8), torch.rand(2, 2), torch.tensor([2, 0])
    torch.testing.assert_close(model.pairs(z, a, task), torch.cat([z, table.embedding[task], a], -1))
    seen = torch.rand(2, 3)
    read = torch.cat([seen, table.embedding[task]], -1)
    encoded = learner.policy.encode({"vector": seen, TASK: task}, torch.rand(2, 0))
    torch.testing.assert_close(encoded, learner.policy.encoder.body(read))
    assert learner.policy.encoder.inputs == 3 + 4


# Against slow loops


def slow_prior(model: Any, x: np.ndarray, u: Tensor, width: int) -> tuple[np.ndarray, float]:
    """Action [2] and log N of the first `width` of its numbers."""
    out, action, log_prob = net(model.prior, x), np.zeros(2), 0.0
    for i in range(width):
        log_std = -10.0 + 6.0 * (math.tanh(out[2 + i]) + 1.0)
        e = float(torch.special.ndtri(u[i].double()))
        action[i] = math.tanh(out[i] + math.exp(log_std) * e)
        log_prob += -0.5 * e**2 - log_std - 0.5 * math.log(2 * math.pi)
    return action, log_prob


@pytest.mark.parametrize("episodic", [False, True])
def test_losses_against_a_slow_loop(episodic: bool) -> None:
    """Every row on its own, with its task's embedding, discount and actions."""
    learner = made(episodic=episodic, entropy=0.3)
    model, width, horizon = learner.policy.model, 6, 3
    table = model.tasks
    assert table is not None
    wild = torch.Generator().manual_seed(4)
    with torch.no_grad():  # values whose discounts can be told apart
        for parameter in (*learner.slow_critics.weights, *model.critics.weights):
            parameter.copy_(2.0 * torch.randn(parameter.shape, generator=wild))
    data, noise = of_tasks(learner, width), torch.Generator().manual_seed(3)
    u_ahead, u_target = torch.rand(horizon, width, 2, generator=noise), torch.rand(3, generator=noise)
    u_drop = torch.rand(3, horizon * width, 6, generator=noise).numpy()
    u_actor = torch.rand(horizon + 1, width, 2, generator=noise)
    u_pi = torch.rand(2, (horizon + 1) * width, 6, generator=noise).numpy()
    two, other = (u.argsort(descending=True)[:2].tolist() for u in (u_target, torch.rand(3, generator=noise)))
    sums = {name: np.zeros(horizon) for name in ("consistency", "reward", "value", "end", "count")}
    actor, actor_count, spread = np.zeros(horizon + 1), np.zeros(horizon + 1), []
    chosen: list[tuple[int, float, float]] = []
    rows = {name: array(value) for name, value in data.rows.items()}
    for b in range(width):
        k, over = b % 3, False
        e = array(table.embedding[k])
        z = net(learner.policy.encoder.body, np.concatenate([rows["obs.vector"][0, b], e]))
        for t in range(horizon + 1):
            a, log_prob = slow_prior(model, np.concatenate([z, e]), u_actor[t, b], WIDTHS[k])
            x = np.concatenate([z, e, a])
            q = [mean(critic(model.critics, j, x, u_pi[i, t * width + b])) for i, j in enumerate(other)]
            spread += [sum(q) / 2] if t == 0 else []
            if not over:
                chosen.append((t, sum(q) / 2, WIDTHS[k] * log_prob))
                actor_count[t] += 1
            over = over or bool(rows["is_last"][t, b])
            if t == horizon:
                continue
            x = np.concatenate([z, e, rows["action"][t, b]])
            reward = rows["reward"][t + 1, b]
            h = net(learner.policy.encoder.body, np.concatenate([rows["obs.vector"][t + 1, b], e]))
            step = np.concatenate([h, e, slow_prior(model, np.concatenate([h, e]), u_ahead[t, b], WIDTHS[k])[0]])
            worth = min(mean(critic(learner.slow_critics, j, step)) for j in two)
            target = reward + GAMMAS[k] * (1 - rows["is_terminal"][t + 1, b]) * worth
            values = [cross_entropy(critic(model.critics, j, x, u_drop[j, t * width + b]), target) for j in range(3)]
            paid = cross_entropy(net(model.reward, x), reward)
            z = net(model.dynamics, x)
            if over:
                continue
            sums["consistency"][t] += ((z - h) ** 2).mean()
            sums["reward"][t] += paid
            sums["value"][t] += sum(values) / 3
            sums["count"][t] += 1
            if model.end is not None:
                logit, end = net(model.end, np.concatenate([z, e]))[0], rows["is_terminal"][t + 1, b]
                sums["end"][t] += end * softplus(-logit) + (1 - end) * softplus(logit)
    weights = 0.5 ** np.arange(horizon + 1)
    expected = {
        name: float((weights[:horizon] * sums[name] / sums["count"]).sum() / horizon)
        for name in ("consistency", "reward", "value")
    }
    if episodic:
        expected["end"] = sums["end"].sum() / sums["count"].sum()
    metrics: dict[str, Tensor] = {}
    steps = learner.losses(data, metrics)
    next(steps)
    assert {name: metrics[f"{name}_loss"].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    scale = 1.0 + 0.01 * (max(float(np.quantile(spread, 0.95) - np.quantile(spread, 0.05)), 1.0) - 1.0)
    for t, q, count in chosen:
        actor[t] -= q / scale - 0.3 * count
    expected_actor = float((weights * actor / actor_count).sum() / (horizon + 1))
    assert next(steps)["actor"].item() == pytest.approx(expected_actor, rel=1e-4)


def test_without_embeddings_and_masks_it_is_the_model_of_one_task() -> None:
    """Weights of the embedding are zero, all tasks have all actions and one discount: the losses are one task's."""
    single = disturb(make(replace(CONFIG, plan=SEARCH)))
    env = replace(TASKS, widths=())
    several = make(replace(THREE, episode_lengths=()), env)
    ours = several.state_dict()
    for name, theirs in single.state_dict().items():
        mine = ours[name]
        if mine.shape != theirs.shape:
            axis = next(i for i, (m, t) in enumerate(zip(mine.shape, theirs.shape, strict=True)) if m != t)
            at = 3 if "encoder" in name else 8  # behind what is seen, or behind the latent
            before, after = theirs.split([at, theirs.shape[axis] - at], axis)
            blank = torch.zeros([4 if i == axis else n for i, n in enumerate(theirs.shape)])
            theirs = torch.cat([before, blank, after], axis)
        mine.copy_(theirs)
    data = of_tasks(several)
    alone = replace(data, rows={name: value for name, value in data.rows.items() if name != "obs.task"})
    one: dict[str, Tensor] = {}
    other: dict[str, Tensor] = {}
    steps = single.losses(alone, one), several.losses(data, other)
    for left, right in zip(*steps, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
    assert one.keys() == other.keys()


def test_who_gets_gradients() -> None:
    """The model's loss moves the embeddings of the tasks that it sees, not at the encoder's rate; the prior's none."""
    learner = made()
    table = learner.policy.model.tasks
    assert table is not None
    data = of_tasks(learner)
    data.rows["obs.task"].fill_(1)
    steps = learner.losses(data, {})
    next(steps)["model"].backward()
    grad = table.embedding.grad
    assert grad is not None
    assert grad[1].abs().min() > 0
    assert not grad[[0, 2]].any()
    learner.policy.zero_grad()
    next(steps)["actor"].backward()
    assert table.embedding.grad is None
    assert table.embedding.requires_grad
    rates = {p: group["lr"] for group in learner.optimisers["model"].rule.param_groups for p in group["params"]}
    assert rates[table.embedding] == 3e-4


def test_an_update_never_waits_for_the_device() -> None:
    learner = made(episodic=True)
    with Watch() as watch:
        learner.update(of_tasks(learner))
    assert [name for name, _ in watch.trace if name in WAITING] == []


@on_gpu
def test_a_recorded_update_is_the_update() -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(THREE, TASKS, device=torch.device("cuda"))
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [of_tasks(learner, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


def test_embeddings_stay_within_their_norm() -> None:
    learner = make(replace(THREE, opt=replace(THREE.opt, lr=5.0)), TASKS)
    table = learner.policy.model.tasks
    assert table is not None
    for seed in range(3):
        learner.update(of_tasks(learner, seed=seed))
        norms = table.embedding.norm(dim=-1)
        assert norms.max() <= 1.0 + 1e-5
        assert norms.min() > 0.9  # every step of this size leads outside


# Acting


def test_the_worth_of_a_sequence_has_its_tasks_discount() -> None:
    learner = made(episodic=True)
    model, g = learner.policy.model, torch.Generator().manual_seed(0)
    foresight = Foresight(model, 0.5)  # of one task, not read here
    z, candidates = torch.rand(3, 8, generator=g), 2 * torch.rand(3, 7, 3, 2, generator=g) - 1
    own, shared = torch.rand(3, 7, 2, generator=g), torch.rand(3, 3, generator=g)
    task = torch.tensor([0, 1, 2])
    with torch.no_grad():
        found = imagined_returns(foresight, {LATENT: z, TASK: task}, candidates, None, own, shared)
        for b in range(3):
            two = sorted(range(3), key=lambda k: -float(shared[b, k]))[:2]
            for n in range(7):
                now, total, weight, over = z[b], 0.0, 1.0, False
                for t in range(3):
                    a = candidates[b, n, t]
                    total += 0.0 if over else weight * float(model.pays(now, a, task[b]))
                    now, weight = model.next(now, a, task[b]), GAMMAS[b] * weight
                    over = over or bool(model.ended(now, task[b]))
                values = model.values(now, model.act(now, own[b, n], task[b])[0], model.critics, task=task[b])
                total += 0.0 if over else weight * float(values[two].mean())
                assert found[b, n].item() == pytest.approx(total, abs=1e-5)


class Line:
    """A model that pays the first number of an action, and keeps what was tried."""

    noise = 0

    def __init__(self) -> None:
        self.tried: list[Tensor] = []

    def imagine(self, state: Any, action: Tensor, noise: Any) -> Any:
        self.tried.append(action)
        return state, action[:, 0], torch.ones(len(action))

    def value(self, state: Any) -> Tensor:
        return torch.zeros(len(state["z"]))


def test_a_masked_plan_by_itself_and_beside_the_whole() -> None:
    """Masked numbers are 0 in candidates and plans, with std 0; the first, which alone is paid for, is as without."""
    actions = ContinuousActions(2)
    search = replace(SEARCH, policy_candidates=0)
    u = torch.rand(2, plan_noise(search, actions), generator=torch.Generator().manual_seed(0))
    whole, masked = Line(), Line()
    state = {"z": torch.zeros(2, 1)}
    action, planned = plan(whole, state, actions, search, u)
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    cut, shown = plan(masked, state, actions, search, u, mask=mask)
    assert torch.equal(cut[:, 0], action[:, 0])
    assert torch.equal(cut[1], action[1])
    assert cut[0, 1] == 0
    assert torch.equal(shown.mean[..., 0], planned.mean[..., 0])
    assert torch.equal(shown.std[..., 0], planned.std[..., 0])
    assert not shown.mean[0, :, 1].any()
    assert not shown.std[0, :, 1].any()
    assert shown.std[1].min() > 0
    tried = torch.stack(masked.tried).view(len(masked.tried), 2, -1, 2)
    assert not tried[:, 0, :, 1].any()
    assert tried[:, 1, :, 1].all()
    every = plan(Line(), state, actions, search, u, mask=torch.ones(2, 2))[1]
    assert torch.equal(every.mean, planned.mean)


@pytest.mark.parametrize("mpc", [True, False])
@pytest.mark.parametrize("play", ["explore", "random", "greedy"])
def test_streams_of_all_tasks_decide_apart(play: Any, mpc: bool) -> None:
    """Each decides what it decides alone, by its own task, and leaves alone what its task has no action for."""
    learner = made(mpc=mpc)
    policy = learner.policy
    rows = {name: value[0] for name, value in of_tasks(learner, ends=0.0).rows.items()}
    rows["obs.vector"] = rows["obs.vector"][:1].expand(6, -1)
    g = torch.Generator().manual_seed(5)
    last = (torch.rand(6, 3, 2, generator=g) - 0.5) * torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]] * 2)[:, None]
    u = torch.rand(1, policy.noise, generator=g).expand(6, -1)
    with torch.no_grad():
        together = policy.step({"plan": last}, rows, Tape(u), Seat.alone(6, play))
        for b in range(6):
            one = {name: value[b : b + 1] for name, value in rows.items()}
            alone = policy.step({"plan": last[b : b + 1]}, one, Tape(u[:1]), Seat.alone(1, play))
            torch.testing.assert_close(alone.action[0], together.action[b])
            torch.testing.assert_close(alone.state["plan"][0], together.state["plan"][b])
    action = together.action
    assert not action[[0, 2, 3, 5], 1].any()
    assert not together.state["plan"][[0, 2, 3, 5], :, 1].any()
    assert action[[1, 4], 1].all()
    if play != "random":
        assert action[0, 0] != action[2, 0]  # tasks see the same, and decide otherwise


def test_it_is_saved_and_restored() -> None:
    learner, other = made(), make(THREE, TASKS, seed=9)
    learner.update(of_tasks(learner))
    other.restore(learner.save())
    rows = {name: value[0] for name, value in of_tasks(learner).rows.items()}
    one, two = (
        each.policy.step(each.policy.initial_state(6), rows, Noise(3), Seat.alone(6, "explore"))
        for each in (learner, other)
    )
    assert torch.equal(one.action, two.action)
    again, twin = (each.update(of_tasks(learner, seed=1)).metrics for each in (learner, other))
    assert all(torch.equal(value, twin[name]) for name, value in again.items())


@pytest.mark.parametrize(
    ("env", "changes", "reason"),
    [
        (replace(IMAGE, tasks=("a", "b")), {}, "several environments are learned from vectors, not from images"),
        (TASKS, {"episode_lengths": (100, 100)}, "episode_lengths has 2 lengths for 3 environments"),
        (replace(TASKS, action=spaces.Discrete(3), widths=()), {}, "plans continuous actions"),
    ],
)
def test_what_does_not_fit_is_refused(env: EnvSpec, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TDMPC2(replace(THREE, **changes), env)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"episode_lengths": (100, 0)}, "all of episode_lengths"), ({"task_size": 0}, "task_size must be at least 1")],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TDMPC2Config(**changes)


def test_actions_of_the_widest_task_are_everybodys() -> None:
    policy = made().policy
    assert policy.actions.size == 2
    assert policy.initial_state(2)["plan"].shape == (2, 3, 2)
    assert TASKS.action == ACTION


def test_the_sizes_of_80_tasks_are_what_they_are_called() -> None:
    """Meta-world's 39 numbers and the control suite's 6 actions are the widest of the published 80 tasks."""
    tasks = tuple(map(str, range(80)))
    seen = {"vector": spaces.Box(-1, 1, (39,), np.float32), "task": spaces.Discrete(80)}
    env = EnvSpec("test", seen, spaces.Box(-1, 1, (6,), np.float32), tasks=tasks)
    found = {}
    for name, size in SIZES.items():
        with torch.device("meta"):
            policy = TDMPC2(TDMPC2Config(size=size()), env).policy()
        found[name] = sum(p.numel() for p in policy.parameters())
    del found["tiny"]
    assert all(abs(count / 1e6 - int(name[:-1])) < 0.8 for name, count in found.items())
    text = (Path(__file__).parents[2] / "docs" / "tdmpc2.md").read_text()
    assert all(f"{count:,}".replace(",", " ") in text.replace("\n", " ") for count in found.values())
