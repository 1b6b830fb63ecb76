"""Ids of environments that a mistyped one may mean, also under the names that other libraries have for them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence

from reverie.errors import near

OTHER_NAMES = {
    "crafter": "crafter/reward",
    "crafterreward": "crafter/reward",
    "crafternonreward": "crafter/noreward",
    "crafternoreward": "crafter/noreward",
}
"""plain id -> id here"""

_PREFIX = re.compile(r"^(?:atari|ale|dmc|dm_?control|dmcontrol|gym|gymnasium)(?:[\W_]+|$)")
_SUFFIX = re.compile(r"(?:no_?frameskip|deterministic|ramno_?frameskip|ramdeterministic|ram)?(?:-v\d+)?$")


def hint(id: str, cheap: Sequence[str], dear: str = "reverie.envs.control") -> str:
    """Hint '; did you mean a, b?' for an id that nobody knows.

    cheap: ids that are known without importing a simulator. dear: the module whose `names` are asked only if none of
    those is the same but for spelling.
    """
    same = same_but_for_spelling(id, [*cheap, *OTHER_NAMES.values()])
    if not same and importlib.util.find_spec("dm_control"):
        same = same_but_for_spelling(id, importlib.import_module(dear).names())
    meant = same or near(id, cheap)
    if not meant:
        return "; `reverie list envs` shows those that there are"
    protocol = "; frame skip and stickiness are its protocol's, --env.protocol" if _is_bare(id) and same else ""
    return f"; did you mean {', '.join(meant)}?{protocol}"


def same_but_for_spelling(id: str, known: Sequence[str]) -> list[str]:
    """Known ids that are the same without families, versions, capitals and punctuation; the newest version first."""
    word = plain(id)
    there = {OTHER_NAMES[word]} if OTHER_NAMES.get(word) in known else set()
    same = {name for name in known if plain(name) == word} if word else set()
    return sorted(there | same, key=lambda name: (-_version(name), name))[:3]


def plain(id: str) -> str:
    """An id without family, version, capitals and punctuation: ``pong`` of ``ALE/Pong-v5`` and ``atari_pong``."""
    word = id.rpartition("/")[2].rpartition(":")[2].lower()
    word = _SUFFIX.sub("", _PREFIX.sub("", word), count=1)
    return re.sub(r"[\W_]+", "", word)


def _version(id: str) -> int:
    found = re.search(r"-v(\d+)$", id)
    return int(found[1]) if found else 0


def _is_bare(id: str) -> bool:
    return bool(re.search(r"no_?frameskip|deterministic", id, re.IGNORECASE))
