"""A warm start: a new run begins with networks of another run's checkpoint, all of them or some parts.

Moments, counts and generators are the new run's own. A part is named by its place in the module tree, in whole or by
its last names: ``encoder`` is ``policy.encoder``, ``torso`` is in ``policy.network.torso`` and in the target's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reverie.agents.learner import tensors_of
from reverie.config import InitConfig
from reverie.errors import UserError, suggest
from reverie.run.checkpoint import Checkpoints
from reverie.run.tree import load_tree
from reverie.run.zoo import resolve

LEARNER = "trainer/learner/tensors/"
"""path of a learner's tensors in a checkpoint"""


def init_networks(learner: nn.Module, init: InitConfig) -> str:
    """Copy networks of another run's checkpoint into a fresh learner. Returns a line that says which, and what stays.

    Raises UserError if there is no such checkpoint, an unknown part is named, or something that is named is not in both
    or has another shape; nothing is copied then.
    """
    folder = Checkpoints(resolve(init.run)).find(init.checkpoint)
    tree = load_tree(folder, (LEARNER,))
    saved: dict[str, Tensor] = tree["trainer"]["learner"]["tensors"]
    own = {name: tensor for name, tensor in tensors_of(learner).items() if not _is_count(name)}
    for part in init.parts:
        if not _of([part], own):
            raise UserError(f"init.parts: no network here is called {part!r}{suggest(part, _parts(own))}")
    wanted = _of(init.parts, own) if init.parts else own
    given = {name: saved[name] for name in wanted if name in saved and saved[name].shape == wanted[name].shape}
    if len(given) < len(wanted) or (not init.parts and {name for name in saved if not _is_count(name)} - set(own)):
        raise UserError(_misfit(init, wanted, own, saved))
    with torch.no_grad():
        for name, value in given.items():
            own[name].copy_(value)
    what = ", ".join(init.parts) or "all networks"
    fresh = _whole_without(own, given)
    rest = f"; fresh: {', '.join(fresh)}" if fresh else ""
    return f"begins with {what} of {init.run} after {tree['env_steps']} env_steps{rest}"


def _misfit(
    init: InitConfig, wanted: Mapping[str, Tensor], own: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> str:
    """Message that names what does not fit, and the parts that do."""
    problems = [
        f"{name} is {_shape(tensor)} here, {_shape(saved[name]) if name in saved else 'missing'} there"
        for name, tensor in wanted.items()
        if name not in saved or saved[name].shape != tensor.shape
    ]
    problems += [f"{name} is not here" for name in saved if name not in own and not _is_count(name)][
        : 4 * (not init.parts)
    ]
    fit = [
        part
        for part in _parts(own)
        if all(name in saved and saved[name].shape == tensor.shape for name, tensor in _of([part], own).items())
    ]
    ways = f"parts that fit: {', '.join(fit)}; choose some with --init.parts" if fit else "no part of them fits"
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"the networks of {init.run} do not fit this run: {', '.join(problems[:3])}{more}; {ways}"


def _parts(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names that parts can be called by: the first three levels of the module tree, each by its own name."""
    return sorted({name for path in tensors for name in path.split(".")[:-1][:3]})


def _of(parts: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of these parts."""
    return {name: value for name, value in tensors.items() if any(f".{part}." in f".{name}" for part in parts)}


def _whole_without(tensors: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Places in the module tree, as high as can be, under which no tensor was given, such as a slow copy's."""
    taken = {path for name in given for path in _above(name)}
    fresh = [name for name in tensors if name not in given]
    return list(dict.fromkeys(next(path for path in _above(name) if path not in taken) for name in fresh))


def _above(name: str) -> list[str]:
    """The places in which a tensor is, from the highest down to its own."""
    names = name.split(".")
    return [".".join(names[: i + 1]) for i in range(len(names))]


def _is_count(name: str) -> bool:
    """Whether a tensor counts the updates of the run that it is of, as `reverie.agents.policy.Policy.version` does."""
    return name.rpartition(".")[2] == "version"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
