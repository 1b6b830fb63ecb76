"""Claims of this repository that a run or a comparison is about, and whether its numbers lie where they say.

A run is about a claim if one of the claim's commands trains the same agent in the same environment with the same
settings, but for seed, length, and what is logged, kept or evaluated.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from reverie.config import Config
from reverie.errors import UserError
from reverie.overrides import is_below
from reverie.report.runs import MACHINE, NOT_LEARNING
from reverie.run.chain import differences
from reverie.run.configure import configure
from reverie.study.compare import own_preset
from reverie.study.reproduce import Check, Claim, claims, claims_folder

OTHERWISE = ("run.seed", *NOT_LEARNING, *MACHINE)
"""keys in which a run that is about a claim may differ from it"""
SCORED = ("run.frames", "run.env_steps", "run.eval_limit")
"""those of them that a score depends on"""
_OF_SCORES = re.compile(r"(?:median_score\.(?P<whole>.+)|summary\.(?P<variant>.+)\.(?:min|max|iqm|median|mean))")
"""paths of checks whose interval is one of scores of a variant"""


@dataclass(frozen=True)
class Met:
    """A claim that something is about. verdicts: (what is checked, the number here, whether it lies in the interval).

    settings: keys that are different there; a number is only held against the claim if there are none.
    """

    claim: Claim
    settings: tuple[str, ...]
    verdicts: tuple[tuple[str, str, bool], ...]


def known_claims() -> list[Claim]:
    """The claims that come with the package or the repository; none where there are none."""
    try:
        return list(claims(claims_folder()).values())
    except UserError:
        return []


def met_by_run(config: Config, score: float | None) -> list[Met]:
    """Claims on the agent of a configuration in its environment, those with its settings and length first.

    score: of the run, held against the intervals of scores of single variants.
    """
    found = []
    for claim in known_claims():
        if config.env.id not in _environments(claim):
            continue
        variants = [(name, other) for name, other in _trained(claim) if other is not None]
        variants = [(n, other) for n, other in variants if (other.name, other.env.id) == (config.name, config.env.id)]
        if not variants:
            continue
        name, nearest = min(variants, key=lambda variant: len(_different(variant[1], config)))
        different = _otherwise(nearest, config)
        checks = [check for check in claim.full.checks if _variant(check) == name and check.minus is None]
        held = () if different or score is None else tuple(_held(check, score) for check in checks)
        found.append(Met(claim, different, held))
    return sorted(found, key=lambda met: len(met.settings))


def met_by_comparison(document: Mapping[str, Any]) -> list[Met]:
    """Claims whose checks find all their numbers in a comparison, of variants with the same settings."""
    found = []
    for claim in known_claims():
        if claim.full.result != "comparison.json" or document.get("env") not in _environments(claim):
            continue
        here = _compared(document)
        trained = [(there, here[name]) for name, there in _trained(claim) if name in here]
        if any(there is None or run is None or _otherwise(there, run) for there, run in trained):
            continue  # settings that cannot be looked at here may be others
        try:
            values = [check.measure(document, Path("comparison.json")) for check in claim.full.checks]
        except UserError:
            continue
        verdicts = tuple(
            (check.describe(), _span(numbers), check.holds(numbers))
            for check, numbers in zip(claim.full.checks, values, strict=True)
        )
        found.append(Met(claim, (), verdicts))
    return found


def _otherwise(one: Config, other: Config) -> tuple[str, ...]:
    return _different(one, other) + _scored_otherwise(one, other)


def _held(check: Check, score: float) -> tuple[str, str, bool]:
    return check.describe(), f"{score:.4g}", check.holds([score])


def _span(numbers: list[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _variant(check: Check) -> str | None:
    found = _OF_SCORES.fullmatch(check.value)
    return None if found is None else found["whole"] or found["variant"]


def _different(one: Config, other: Config) -> tuple[str, ...]:
    return tuple(key for key in differences(one, other) if not is_below(key, (*OTHERWISE, "preset")))


def _scored_otherwise(one: Config, other: Config) -> tuple[str, ...]:
    """Keys of the length and of evaluations in which two configurations differ; of a length the other's."""
    keys = tuple(key for key in differences(one, other) if key in SCORED)
    return tuple(key for key in keys if key == "run.eval_limit" or _length(one) != _length(other))


def _length(config: Config) -> tuple[str, int]:
    run = config.run
    return ("frames", run.frames) if run.env_steps is None else ("env_steps", run.env_steps)


def _trained(claim: Claim) -> Iterator[tuple[str, Config | None]]:
    """(variant, configuration) of what the commands of a claim train, as far as they are `reverie` commands.

    None in place of one that cannot be made here.
    """
    for command in claim.full.commands:
        words = shlex.split(command)
        if words[:2] not in (["reverie", "train"], ["reverie", "compare"]):
            continue
        options, rest = _options(words[2:])
        common = [*options.get("--set", []), *(word for word in rest if "=" in word)]
        common += [f"{option}={values[-1]}" for option, values in options.items() if "." in option]
        length = {key: options[f"--{key}"][-1] for key in ("frames", "env_steps") if f"--{key}" in options}
        variants: list[tuple[str, str, list[str]]]
        variants = [(name, name, []) for name in ",".join(options.get("--agents", [])).split(",") if name]
        variants += [(v[0], v[1], v[2:]) for v in map(shlex.split, options.get("--variant", []))]
        if words[1] == "train":
            variants = [(words[2], words[2], [])]
        for name, agent, own in variants:
            preset, env = (options.get(key, [None])[-1] for key in ("--preset", "--env"))
            mine, rest = own_preset(own)
            try:
                yield name, configure(agent, mine or preset, env, [*common, *rest], length)
            except UserError:  # what it needs is not installed here
                yield name, None


def _compared(document: Mapping[str, Any]) -> dict[str, Config | None]:
    """Configurations of the variants of a comparison; None in place of one that cannot be made here."""
    configs: dict[str, Config | None] = {}
    length = {"frames": str(frames)} if (frames := document.get("frames")) is not None else {}
    for name, agent in document.get("agents", {}).items():
        own, rest = own_preset(document.get("variants", {}).get(name, []))
        words = [*document.get("overrides", []), *rest]
        preset = own or document.get("presets", {}).get(name, document.get("preset"))
        try:
            configs[name] = configure(agent, preset, document["env"], words, length)
        except UserError:
            configs[name] = None
    return configs


def _environments(claim: Claim) -> set[str]:
    words = [word for command in claim.full.commands for word in shlex.split(command)]
    return {env for option, env in pairwise(words) if option == "--env"}


def _options(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Words after their options, by option, and the words that are none's."""
    options: dict[str, list[str]] = {}
    rest = []
    left = iter(words)
    for word in left:
        if word.startswith("--") and "=" not in word:
            options.setdefault(word, []).append(next(left, ""))
        else:
            rest.append(word)
    return options, rest
