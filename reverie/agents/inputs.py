"""What networks read of rows beside the torso: stacked frames, the previous action and reward, and states by part.

The state of a policy is that of its stacks, ``frames.<key>``, and that of its core, ``core.<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.data.rows import OBS, State, observations
from reverie.nets.cores import FrameStack
from reverie.nets.encoders import is_image
from reverie.ops.transforms import identity_reward

Obs = dict[str, Tensor]


class Stacks(nn.Module):
    """A `FrameStack` for each image key; other keys pass. State: ``frames.<key>``, none if k = 1. No parameters.

    Images that are floats are prepared, see `reverie.nets.torsos.Torso.prepare`: stacked already, they pass too.
    """

    def __init__(self, observation: Mapping[str, spaces.Space], k: int) -> None:
        super().__init__()
        self.keys = [key for key, space in observation.items() if is_image(space)] if k > 1 else []
        self.stacks = nn.ModuleList()
        for key in self.keys:
            height, width, colours = observation[key].shape or ()
            self.stacks.append(FrameStack((height, width, colours), k))
        self.lookback = k - 1 if self.keys else 0

    def _each(self) -> list[tuple[str, FrameStack]]:
        pairs = zip(self.keys, self.stacks, strict=True)
        return [(key, stack) for key, stack in pairs if isinstance(stack, FrameStack)]

    def initial_state(self, batch: int, device: torch.device) -> State:
        """Black frames."""
        return {f"frames.{key}": stack.initial_state(batch, device)["frames"] for key, stack in self._each()}

    def step(self, state: State, rows: Mapping[str, Tensor]) -> tuple[Obs, State]:
        """Observations with stacked images, and the state, after rows [B, ...]."""
        obs, after = observations(rows), {}
        for key, stack in self._each():
            one = {"frames": state[f"frames.{key}"]}
            obs[key], one = stack.step(one, obs[key], rows["is_first"])
            after[f"frames.{key}"] = one["frames"]
        return obs, after

    def unroll(self, state: State, rows: Mapping[str, Tensor]) -> tuple[Obs, State]:
        """Observations with stacked images [T, B, ...], and the last state: `step` for rows [T, B, ...] at once."""
        obs, after = observations(rows), {}
        for key, stack in self._each():
            if obs[key].is_floating_point():
                continue
            obs[key], one = stack.unroll({"frames": state[f"frames.{key}"]}, obs[key], rows["is_first"])
            after[f"frames.{key}"] = one["frames"]
        return obs, after

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state that `unroll` returns second, without its observations."""
        after = {}
        for key, stack in self._each():
            if not rows[OBS + key].is_floating_point():
                one = stack.look({"frames": state[f"frames.{key}"]}, rows[OBS + key], rows["is_first"])
                after[f"frames.{key}"] = one["frames"]
        return after


def previous(
    rows: Mapping[str, Tensor],
    encode: Callable[[Tensor], Tensor],
    reward: Callable[[Tensor], Tensor] = identity_reward,
) -> Tensor:
    """The previous action, encoded, and the reward that it earned: float32 [*lead, A + 1], zeros at first rows.

    encode: actions [*lead, ...] -> [*lead, A]. reward: what is made of rewards before they are read.
    Source: Kapturowski et al. 2019 (R2D2), section 2.3; Espeholt et al. 2018 (IMPALA), figure 3.
    """
    first = rows["is_first"]
    action = torch.where(first.unsqueeze(-1), 0.0, encode(rows["prev_action"]))
    return torch.cat([action, reward(torch.where(first, 0.0, rows["reward"])).unsqueeze(-1)], -1)


def core_state(state: State) -> State:
    """The core's part of a state, by the core's own names."""
    return {name.removeprefix("core."): value for name, value in state.items() if name.startswith("core.")}


def named(core: State) -> State:
    """Inverse of `core_state`."""
    return {f"core.{name}": value for name, value in core.items()}
