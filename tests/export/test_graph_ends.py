"""The ends of graphs: observations as environments give them, actions as they take them, masks; and what ONNX lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.envs.adapter import Adapter
from reverie.envs.make import make_env
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.errors import UserError
from reverie.export.adapters import Observations, RowActions
from reverie.export.graphs import Graph, PolicyGraph
from reverie.export.port import Port
from reverie.export.trace import Session, trace
from reverie.ops.loop import loop
from tests.export.test_policies import CLOSE, differences
from tests.export.tiny import tiny
from tests.play.test_load import ACTIONS, OBSERVATIONS
from tests.play.test_load import HERE as ANY

HERE = __name__
MANY: dict[str, spaces.Space] = OBSERVATIONS["nested"][0]  # type: ignore[assignment]


@pytest.mark.parametrize("see", list(OBSERVATIONS))
def test_observations_are_converted_as_rows_have_them(see: str) -> None:
    env = make_env(f"{ANY}:Any_", see=see, do="box", **OBSERVATIONS[see][1])
    observe, space = Observations(env.adapter), OBSERVATIONS[see][0]
    space.seed(4)
    drawn = [space.sample() for _ in range(7)]
    if see == "grid":
        drawn = [np.uint8(each % 64) for each in drawn]
    for each in drawn:
        expected, _ = env.adapter.observe(each, 1)
        given = {
            port.name: torch.from_numpy(np.asarray(at(each, part.path), part.own.dtype)[None])
            for port, part in zip(observe.ports, env.adapter.observation.parts, strict=True)
        }
        assert all(given[port.name].dtype == port.dtype for port in observe.ports)
        assert all(given[port.name].shape[1:] == port.shape for port in observe.ports)
        found = observe(given)
        assert found.keys() == {f"obs.{key}" for key in expected}
        for key, value in expected.items():
            np.testing.assert_array_equal(found[f"obs.{key}"].numpy(), value)
            assert found[f"obs.{key}"].numpy().dtype == value.dtype


def at(observation: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        observation = observation[name]
    return observation


@pytest.mark.parametrize("do", list(ACTIONS))
def test_actions_are_those_of_the_environment_and_come_back(do: str) -> None:
    adapter = ActionAdapter(ACTIONS[do])
    act = RowActions(adapter)
    rows = np.stack([draw(adapter.space, i) for i in range(50)])
    native = adapter.batch(rows)
    found = act(torch.from_numpy(rows))
    np.testing.assert_array_equal(found.numpy(), native)
    assert found.numpy().dtype == native.dtype
    back = act.back(found).numpy()
    assert (back.shape, back.dtype) == (rows.shape, rows.dtype)
    if do == "integers":  # which were rounded
        np.testing.assert_array_equal(adapter.batch(back), native)
    else:
        np.testing.assert_allclose(back, np.clip(rows, -1, 1) if rows.dtype.kind == "f" else rows, atol=1e-6)


def draw(space: spaces.Space, i: int) -> np.ndarray:
    space.seed(i)
    drawn = np.asarray(space.sample())
    return (1.3 * drawn).astype(np.float32) if isinstance(space, spaces.Box) else drawn


class Both(gymnasium.Env[Any, Any]):
    """A channels-first picture, a count from 3 and numbers in a Dict; actions of any kind; a mask if asked for."""

    def __init__(self, do: str = "box", masked: str = "") -> None:
        self.observation_space = spaces.Dict(
            {
                "eye": spaces.Box(0, 255, (1, 16, 17), np.uint8),
                "hand": spaces.Dict(
                    {"finger": spaces.Discrete(3, start=3), "palm": spaces.Box(0, 9, (2,), np.float64)}
                ),
            }
        )
        self.masked = masked
        self.action_space = ACTIONS[do]
        if masked == "obs":
            assert isinstance(self.observation_space, spaces.Dict)
            self.observation_space["action_mask"] = spaces.Box(0, 1, (3,), np.int8)
        self.now = 0

    def look(self) -> tuple[Any, dict[str, Any]]:
        self.observation_space.seed(self.now)
        seen, mask = self.observation_space.sample(), np.arange(3, dtype=np.int8) == self.now % 3
        if self.masked == "obs":
            seen["action_mask"] = mask.astype(np.int8)
        return seen, {"action_mask": mask.astype(np.int8)} if self.masked == "info" else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.now = 0 if seed is None else seed
        return self.look()

    def step(self, action: Any) -> Any:
        if self.masked:
            assert int(action) - 5 == self.now % 3
        self.now += 1
        seen, info = self.look()
        return seen, float(self.now), self.now % 9 == 0, False, info


@pytest.mark.parametrize(
    ("agent", "do", "masked"),
    [("a2c", "box", ""), ("dreamerv2", "discrete", "obs"), ("r2d2", "discrete", "info")],
)
def test_an_odd_environment_from_end_to_end(agent: str, do: str, masked: str, tmp_path: Path) -> None:
    """Box(0, 10) and Discrete(start=5) actions, nested observations, masks: in onnxruntime as with the library."""
    options = {"do": do, "masked": masked} | ({"action_mask": "follow"} if masked == "info" else {})
    parts = tiny(agent, f"{HERE}:Both", options, **({"agent__explore__evaluation": 0.5} if agent == "r2d2" else {}))
    graph = PolicyGraph(parts.policy, parts.spec, parts.adapter, parts.env_steps)
    names = [port.name for port in graph.inputs if port.name.startswith("obs.") or "mask" in port.name]
    told = {"": [], "obs": ["obs.action_mask"], "info": ["action_mask"]}[masked]
    assert sorted(names) == sorted(["obs.eye", "obs.hand/finger", "obs.hand/palm", *told])
    trace("policy", graph).save_onnx(tmp_path / "policy.onnx")
    worst, done = differences(parts, {"onnx": Session(tmp_path / "policy.onnx")}, 40, length=7)
    assert worst["onnx"] < CLOSE
    assert len(done) > 1
    if do == "box":
        assert all(0.0 <= value[0] <= 10.0 for value in done)
    else:
        assert done <= {(5,), (6,), (7,)}


def test_what_has_no_dtype_or_no_known_conversion_is_one_line() -> None:
    odd = ObservationAdapter(spaces.Box(0, 9, (2,), np.uint16))
    with pytest.raises(UserError, match="observation 'vector' is uint16, which exports do not have"):
        Observations(Adapter(odd, ActionAdapter(spaces.Discrete(2))))
    part = ObservationAdapter(spaces.Discrete(3)).parts[0]
    object.__setattr__(part, "convert", lambda x: x)
    odd.parts = (part,)
    with pytest.raises(UserError, match=r"observation 'index' is converted by .* which is not known to exports"):
        Observations(Adapter(odd, ActionAdapter(spaces.Discrete(2))))


class Exact(Graph):
    """Two operations that are written as several operators, because what they are used for needs every digit."""

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"quantile": torch.special.ndtri(given["p"]), "tanh": torch.tanh(given["x"])}


class Odd(Graph):
    """One of each operation that is written otherwise, the quantile and the tanh in the body of a loop too."""

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        def turn(carry: dict[str, Tensor], given: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            return {"sum": carry["sum"] + torch.special.ndtri(given["p"])}, {"tanh": torch.tanh(given["p"])}

        end, told = loop(turn, {"sum": torch.zeros_like(given["p"][:, 0])}, {"p": given["p"].t()})
        first = given["flags"].max(-1)
        return {
            "product": given["bytes"] * torch.ones_like(given["bytes"]),
            "quotient": given["bytes"].div(8, rounding_mode="floor"),
            "largest": first.values,
            "index": first.indices,
            "quantile": torch.special.ndtri(given["p"][:, 0]),
            "sum": end["sum"],
            "tanh": told["tanh"].t(),
        }


def written(kind: type[Graph], given: dict[str, Tensor], folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a graph answers in ONNX, and in torch."""
    graph = kind([Port.of(name, value) for name, value in given.items()])
    trace("graph", graph, given).save_onnx(folder / "graph.onnx")
    answer = Session(folder / "graph.onnx")({name: value.numpy() for name, value in given.items()})
    return {name: torch.from_numpy(value) for name, value in answer.items()}, graph(given)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_quantiles_and_tanh_are_exact_to_float32(tmp_path: Path) -> None:
    ends = torch.tensor([2.0**-27, 2.0**-25, 0.075, 0.5, 0.925, 1 - 2.0**-24])
    p = torch.cat([torch.rand(100_000, generator=torch.Generator().manual_seed(0)).clamp(2.0**-27), ends])
    x = torch.linspace(-9, 9, len(p))
    answer, _ = written(Exact, {"p": p, "x": x}, tmp_path)
    off = (answer["tanh"] - torch.tanh(x.double())).abs()
    assert float((answer["quantile"] - torch.special.ndtri(p.double())).abs().max()) < 3e-6
    assert float(off.max()) < 1.2e-7
    assert float(off[x.abs() > 3].max()) < 4e-8


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_bytes_booleans_and_loops_are_what_they_were(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    flags = torch.randint(2, (256, 3), generator=generator).bool()
    given = {"bytes": torch.arange(256, dtype=torch.uint8), "flags": flags}
    given["p"] = torch.rand(256, 3, generator=generator).clamp(1e-4, 1 - 1e-4)
    answer, expected = written(Odd, given, tmp_path)
    for name, value in expected.items():
        assert answer[name].dtype == value.dtype, name
        assert torch.allclose(answer[name].double(), value.double(), rtol=0, atol=2e-6), name
    assert set(expected["largest"].tolist()) == {True, False}
