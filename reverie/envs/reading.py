"""Reading: what a user says of observations whose spaces do not tell what they are, as options of an environment.

::

    kind      image    a picture: bytes [H, W, C], scaled from the space's own bounds; through a CNN
              grid     codes of cells: one plane of 0 or 255 per code, [H, W, codes]; of a list of codes, one-hot
              vector   numbers, flattened
              drop     not an observation for the agent
    layout    hwc, chw, hw: where the channels (of a grid: its planes of codes) are
    codes     how many codes a grid has, or each of its planes: a list; otherwise its bounds say it

Each of these is one value, where one observation alone can be meant, or a value by key: ``{"camera": "image"}``. Names
of nested observations are nested or joined with "/".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gymnasium import spaces

from reverie.errors import UserError, suggest

Kind = Literal["image", "grid", "vector", "drop"]
Layout = Literal["hwc", "chw", "hw"]
Codes = int | Sequence[int]
Heed = Literal["follow", "ignore"]


@dataclass(frozen=True)
class Said:
    """What was said of one observation; None: nothing."""

    kind: Kind | None = None
    layout: Layout | None = None
    codes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Reading:
    """What was said of all observations, see the module. `of` finds what was said of each.

    action_mask: whether agents take masked actions only: ``follow`` ``info["action_mask"]``, or ``ignore`` it and the
    observation of that name. known: what is known of observations of which nothing was said, by name.
    """

    kind: Kind | Mapping[str, Any] = field(default_factory=dict)
    layout: Layout | Mapping[str, Any] = field(default_factory=dict)
    codes: Codes | Mapping[str, Any] = field(default_factory=dict)
    action_mask: Heed | None = None
    known: Mapping[str, Said] = field(default_factory=dict)

    def of(self, leaves: Mapping[str, spaces.Space]) -> dict[str, Said]:
        """What was said of each of the observations `leaves`, name -> space ("" is the name of a lone one).

        Raises UserError for names that are not among them, values that are unknown, and one value where it is not clear
        which observation it is of.
        """
        kinds = _spread("kind", self.kind, leaves)
        layouts = _spread("layout", self.layout, leaves)
        codes = _spread("codes", self.codes, leaves)
        said = {
            name: Said(
                _one_of("kind", name, kinds.get(name), get_args(Kind)),
                _one_of("layout", name, layouts.get(name), get_args(Layout)),
                _counts(name, codes.get(name)),
            )
            for name in leaves
        }
        return {name: self.known.get(name, one) if one == Said() else one for name, one in said.items()}


PICTURE = Reading("image", "hwc")
"""What families say whose environments show pictures of any size."""

ANNOTATIONS: dict[str, Any] = {
    "kind": str | Mapping,
    "layout": str | Mapping,
    "codes": int | list | Mapping,
    "action_mask": Heed,
}
"""The options as `reverie.envs.options.check_options` checks them."""


def taken(
    options: Mapping[str, Any], known: Mapping[str, Said] = {}, heed: Heed | None = None
) -> tuple[Reading, dict[str, Any]]:
    """The reading among the options of an environment, and the other options.

    known, heed: of the environment, where an option says nothing else.
    """
    said: dict[str, Any] = {"action_mask": heed} | {name: options[name] for name in ANNOTATIONS if name in options}
    return Reading(**said, known=known), {name: value for name, value in options.items() if name not in ANNOTATIONS}


def option(name: str, key: str, value: str = "") -> str:
    """The words of a command line that say `value` of the observation `key`."""
    path = "".join(f".{part}" for part in key.split("/")) if key else ""
    return f"--env.options.{name}{path} {value}".rstrip()


def _spread(name: str, said: Any, leaves: Mapping[str, spaces.Space]) -> dict[str, Any]:
    """Values of an option by the names of observations."""
    if isinstance(said, Mapping):
        flat = dict(_flat(said))
        for key in flat:
            if key not in leaves:
                known = [leaf or "(one, without a name)" for leaf in leaves]
                raise UserError(f"{name}.{key}: there is no observation {key!r}{suggest(key, known)}")
        return flat
    boxes = [key for key, space in leaves.items() if isinstance(space, spaces.Box)] or list(leaves)
    arrays = [key for key in boxes if len(leaves[key].shape or ()) > 1]
    meant = boxes if len(boxes) == 1 else arrays
    if len(meant) != 1:
        raise UserError(
            f"{name} {said!r} could be of {', '.join(meant or boxes)}; say which: {name}.{(meant or boxes)[0]}"
        )
    return {meant[0]: said}


def _flat(said: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def _one_of(name: str, key: str, value: Any, known: Sequence[Any]) -> Any:
    if value is not None and value not in known:
        raise UserError(f"{option(name, key, str(value))}: expected one of {', '.join(known)}")
    return value


def _counts(key: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    counts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not counts or not all(isinstance(count, int) and not isinstance(count, bool) and count > 1 for count in counts):
        raise UserError(
            f"{option('codes', key, str(value))}: expected a number of codes above 1, or one for each plane"
        )
    return counts
