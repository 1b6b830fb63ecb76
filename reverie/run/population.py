"""Population-based training: members with rates of their own, of which the good are copied and changed.

::

    DIR/population.json            the configuration of all
        decisions.jsonl            every decision, one line each: a whole round is written at once
        donors/<round>/<member>/   checkpoints that are copied from, linked before the round is written
        member-0/ ...              run directories like any other

    round k   every member is trained to the env_steps of the round, one after another, and saved there
              fitness: mean score of the episodes since its last decision, as in training
              decisions are written; who copies does so when it goes on: its own checkpoint, then the donor's networks

Nothing is kept in memory only. What a member has to do follows from its newest checkpoint and the decisions: one that
is still where the round was decided takes over its donor's networks (again, if it was killed before its next
checkpoint), one that is further on has done so. So a population may be killed at any time; the same command goes on.

Members keep their own rows, environments, counts and noise. Source: Jaderberg et al. 2017, "Population Based Training
of Neural Networks"; Espeholt et al. 2018 (IMPALA), appendix F. Differs from these in: members take turns, and decide
together at the end of a round, where theirs run side by side and decide one by one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import overrides
from reverie.agents.a2c import A2CConfig
from reverie.agents.learner import Learner
from reverie.config import POPULATION, Config, PopulationConfig, with_settings
from reverie.errors import UserError, notice
from reverie.nets.schedule import resolve
from reverie.report.log import read_metrics
from reverie.report.writer import Writer
from reverie.run.branch import link
from reverie.run.build import derive, env_spec
from reverie.run.callback import Callback
from reverie.run.checkpoint import Checkpoints
from reverie.run.evolve import Decision, as_line, decide, first_values, ranked
from reverie.run.fitness import fitness
from reverie.run.fixed import check_change
from reverie.run.length import run_length
from reverie.run.lock import Stop, alone, interruptible
from reverie.run.runner import Runner
from reverie.run.saved_config import load_chain, load_config, save_chain, save_config
from reverie.run.status import StatusFile
from reverie.run.train import changed, runner
from reverie.run.tree import load_tree
from reverie.values import is_whole

DECISIONS = "decisions.jsonl"
IMPALA: dict[str, list[float]] = {
    "agent.entropy": [5e-5, 1e-2],
    "agent.opt.lr": [5e-6, 5e-3],
    "agent.opt.eps": [1e-1, 1e-3, 1e-5, 1e-7],
}
"""where members begin if nothing is said. Source: Espeholt et al. 2018, appendix D"""


def begin(
    config: Config, root: Path, *, writers: Sequence[Writer] = (), callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Summary of a population that begins in a new directory and is trained to its end. Arguments as in `train`."""
    if config.dataset.path:
        raise UserError("a population acts: population.size must be 0 where a run learns from a dataset")
    vary = ranges(config)
    for key, given in vary.items():
        settings = [with_settings(config, {key: value}) for value in given]  # it is said now if one does not fit
        try:
            for changed_config in settings:
                check_change(config, changed_config)
        except UserError as error:
            raise UserError(f"population.vary: {key!r} cannot change in the middle of a run; leave it out") from error
    _rehearse(config)
    root.mkdir(parents=True, exist_ok=True)
    save_config(config, root)
    return go_on(root, writers=writers, callbacks=callbacks)


def go_on(
    root: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Summary of a population that goes on from whatever was saved. Raises UserError for changes: there are none."""
    if changes:
        raise UserError(f"a population goes on as it is: leave {', '.join(changes)} out, or begin another")
    config = load_config(root, POPULATION)
    with interruptible() as stop, alone(root), _engine(config):
        return Population(config, root, stop, writers, callbacks).train()


def _rehearse(config: Config) -> None:
    """Build a member elsewhere, so that what cannot be trained is refused before anything is written."""
    with _engine(config), tempfile.TemporaryDirectory(prefix="reverie-") as folder:
        population = Population(config, Path(folder), Stop())
        alone_of_them = population.member_config(0)
        with runner(alone_of_them, Path(folder) / "member-0") as member:
            try:
                member.begin()
                member.run.rehearse()
            finally:
                member.close()
    if not any(population.evolving[:-1]):
        options, ends = population.options, ", ".join(map(str, population.rounds))
        raise UserError(
            f"nothing would ever be decided: rounds end after {ends} env_steps, and none before the last of them after "
            f"population.burn_in, {options.burn_in:g}; make population.every ({options.every:g}) or burn_in smaller"
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # members look how much is free


@contextmanager
def _engine(config: Config) -> Iterator[None]:
    """Context in which Ray stays connected from member to member, where there are actors."""
    if not config.ray.actors:
        yield
        return
    from reverie.run.cluster import connected

    with connected(config.ray):
        yield


def ranges(config: Config) -> dict[str, list[float]]:
    """What varies in a population, and where it begins. Raises UserError for unknown keys, or if nothing is said."""
    keys = overrides.flatten(config)
    vary = {key: list(given) for key, given in config.population.vary.items()}
    if not vary and isinstance(config.agent, A2CConfig):
        return dict(IMPALA)
    if not vary:
        raise UserError(
            "say what varies among the members: only actor-critics have ranges of their own; for example "
            """--population.vary '{"agent.opt.lr":[1e-5,1e-2]}'"""
        )
    for key in vary:
        if not isinstance(keys.get(key), int | float) or isinstance(keys[key], bool):
            raise UserError(f"population.vary: {key!r} is no key of {config.name} with a number")
        if is_whole(overrides.hint_of(config, key)):
            raise UserError(f"population.vary: {key!r} is a whole number, and what varies is multiplied; leave it out")
    return vary


class Relay(Stop):
    """Request to end for one member: asked of all of them. Its reason stays empty, so that members tell no way on."""

    def __init__(self, all_of_them: Stop) -> None:
        super().__init__()
        self.all_of_them = all_of_them

    def ask(self, reason: str) -> None:
        """Ask."""
        self.all_of_them.ask(reason)

    def __call__(self) -> bool:
        """Whether somebody has asked."""
        return self.all_of_them()


class Population:
    """Members of a population in its directory, locked. stop: the request to save and end."""

    def __init__(
        self,
        config: Config,
        root: Path,
        stop: Stop,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.config, self.root, self.stop = config, root, stop
        self.writers, self.callbacks = writers, callbacks
        length = run_length(config, env_spec(config).action_repeat)
        self.total = length.env_steps
        self.options: PopulationConfig = resolve(config.population, length)
        self.vary = ranges(config)
        self.members = [root / f"member-{number}" for number in range(self.options.size)]
        every, burn_in = int(self.options.every), int(self.options.burn_in)
        self.rounds = [*range(every, self.total, every), self.total]
        """env_steps of each round's end"""
        self.evolving = [end >= burn_in for end in self.rounds]
        self.decisions = read_decisions(root / DECISIONS, self.options.size)
        """of each round, that of the beginning first"""
        self.shown = StatusFile(root, self.status)

    def train(self) -> dict[str, Any]:
        """Summary of all members, trained to their ends or until stopped."""
        if not self.decisions:
            self.note(self.first())
        for number, end in enumerate(self.rounds):
            if number + 1 < len(self.decisions):
                continue  # all members had come to its end when the next was decided
            for member in range(len(self.members)):
                self.slice(member, number, end)
                self.shown.write(now=True)
                if self.stop():
                    return self.result()
            if number + 1 < len(self.rounds) and number + 1 >= len(self.decisions):
                decisions = self.decided(number, end)
                self.lend(decisions)
                self.note(decisions)
        shutil.rmtree(self.root / "donors", ignore_errors=True)
        return self.result()

    def first(self) -> list[Decision]:
        """Hyper-parameters that members begin with, as decisions of a round 0."""
        values = [
            first_values(self.vary, np.random.default_rng(derive(self.config.run.seed, f"member {number}")))
            for number in range(len(self.members))
        ]
        return [Decision(0, number, 0, None, None, None, None, {}, own) for number, own in enumerate(values)]

    def settings(self, member: int, number: int) -> dict[str, float]:
        """Hyper-parameters of a member in a round, counted from 0."""
        return dict(self.decisions[number][member].after)

    def slice(self, member: int, number: int, end: int) -> None:
        """Train a member to the end of a round, counted from 0, if it is not there yet."""
        run_dir, last = self.members[member], end == self.total
        made = Checkpoints(run_dir).head() or {}
        at = int(made.get("env_steps", -1))
        decision = self.decisions[number][member]
        copies = decision.copied_from is not None and at == decision.env_steps
        whole = made.get("cut_since") is None
        if at >= end and whole and not copies and (made.get("finished_at") == at if last else not made["owed"]):
            return
        print(f"population: round {number + 1} of {len(self.rounds)}, member {member}", flush=True)
        config = with_settings(self.member_config(member), decision.after)
        if not (run_dir / "config.json").exists():
            run_dir.mkdir(exist_ok=True)
            save_config(config, run_dir)
        chain = changed(load_chain(run_dir), decision.after, run_dir)
        with runner(chain.config, run_dir, chain, self.writers, self.callbacks) as run, alone(run_dir):
            run.restore()
            save_chain(chain, run_dir)
            if copies:
                assert decision.copied_from is not None
                take_over(run.learner, self.donor(number, decision.copied_from))
                run.renewed()
            self.go(run, None if last else end)

    def go(self, run: Runner, until: int | None) -> None:
        """Train one member."""
        run.train(Relay(self.stop), until)

    def member_config(self, member: int) -> Config:
        """The configuration of a member, but for what varies."""
        config = replace(self.config, population=PopulationConfig())
        seed = derive(self.config.run.seed, f"member {member} of the population")
        return replace(config, run=replace(config.run, seed=seed))

    def decided(self, number: int, end: int) -> list[Decision]:
        """The decisions at the end of a round, counted from 0; in the burn-in nothing changes."""
        values = [self.settings(member, number) for member in range(len(self.members))]
        env_steps, fit = [], []
        for member, run_dir in enumerate(self.members):
            made = Checkpoints(run_dir).head()
            assert made is not None
            env_steps.append(int(made["env_steps"]))
            since = max(each[member].env_steps for each in self.decisions if self.judged(each[member]))
            lines = (line for line in read_metrics(run_dir) if since < line["env_steps"] <= env_steps[-1])
            fit.append(fitness(self.config.env.id, lines, self.options.episodes) if self.evolving[number] else None)
        draws = np.random.default_rng(derive(self.config.run.seed, f"round {number + 1}"))
        decisions = decide(number + 1, env_steps, fit, values, self.options, draws)
        return [replace(decision, after=self.within(decision.after)) for decision in decisions]

    def within(self, values: Mapping[str, float]) -> dict[str, float]:
        """Values of hyper-parameters, those that a change has taken out of their bounds at the nearest of these."""
        ends = {key: overrides.bounds_of(self.config, key) for key in values}
        return {key: min(max(value, ends[key][0]), ends[key][1]) for key, value in values.items()}

    def judged(self, decision: Decision) -> bool:
        """Whether episodes before it count no more: unless a member was not ready, which is judged by them later."""
        ready = decision.fitness is not None
        return ready or decision.round == 0 or not self.evolving[decision.round - 1]

    def lend(self, decisions: Sequence[Decision]) -> None:
        """Keep the checkpoints that members of the next round begin with."""
        donors, number = self.root / "donors", decisions[0].round
        shutil.rmtree(donors, ignore_errors=True)
        for source in {decision.copied_from for decision in decisions if decision.copied_from is not None}:
            folder = Checkpoints(self.members[source]).latest()
            assert folder is not None
            to = donors / str(number) / str(source)
            to.mkdir(parents=True)
            for path in folder.iterdir():
                if path.is_file():  # rows of shards are in folders, and are nobody else's
                    link(path, to / path.name)

    def donor(self, number: int, source: int) -> Path:
        """The checkpoint of a member that the round with that number, counted from 0, begins with."""
        return self.root / "donors" / str(number) / str(source)

    def note(self, decisions: Sequence[Decision]) -> None:
        """Write the decisions of a round to the disk, all at once."""
        path = self.root / DECISIONS
        whole = "".join(json.dumps(as_line(each)) + "\n" for round in self.decisions for each in round)
        with path.open("r+" if path.exists() else "w") as log:
            log.seek(len(whole.encode()))
            log.truncate()
            log.write("".join(json.dumps(as_line(decision)) + "\n" for decision in decisions))
            log.flush()
            os.fsync(log.fileno())
        self.decisions.append(list(decisions))
        for decision in decisions:
            if decision.copied_from is not None:
                notice(
                    f"population, round {decision.round}: member {decision.member} ({decision.fitness:.4g}) copies "
                    f"member {decision.copied_from} ({decision.rival_fitness:.4g})"
                )

    def status(self) -> dict[str, Any]:
        """How the population stands, for ``status.json``."""
        heads = [Checkpoints(run_dir).head() or {} for run_dir in self.members]
        latest = self.decisions[-1]
        return {
            "pid": os.getpid(),
            "round": len(self.decisions) - 1,
            "of_rounds": len(self.rounds) - 1,
            "env_steps": sum(int(head.get("env_steps", 0)) for head in heads),
            "of_env_steps": self.total * len(self.members),
            "members": [
                {
                    "member": number,
                    "env_steps": int(head.get("env_steps", 0)),
                    "fitness": latest[number].fitness,
                    "copied": latest[number].copied_from,
                    "hyper-parameters": " ".join(f"{k}={v:.3g}" for k, v in latest[number].after.items()),
                }
                for number, head in enumerate(heads)
            ],
        }

    def result(self) -> dict[str, Any]:
        """Summary: env_steps of all members, and of those that are finished the scores, the best first to be named."""
        heads = [Checkpoints(run_dir).head() or {} for run_dir in self.members]
        counts = {name: sum(int(head.get(name, 0)) for head in heads) for name in ("env_steps", "frames")}
        finished = all(head and head["finished_at"] == head["env_steps"] >= self.total for head in heads)
        scores = [head.get("summary", {}).get("eval_score") for head in heads]
        result: dict[str, Any] = {**counts, "finished": finished, "members": len(heads)}
        if finished and None not in scores:
            best = int(np.argmax([ranked(score) for score in scores]))
            told = heads[best]["summary"]
            result |= {"best": str(self.members[best]), "eval_score": scores[best], "eval_scores": scores}
            result |= {"eval_tasks": told["eval_tasks"]} if "eval_tasks" in told else {}
        if self.stop.reason and not finished:
            result["stopped"] = self.stop.reason
            notice(f"{self.stop.reason}: saved; go on with: reverie resume {shlex.quote(str(self.root))}")
        return result


def read_decisions(path: Path, members: int) -> list[list[Decision]]:
    """The decisions of each round that is whole. Raises UserError for a file that is damaged before its end."""
    if not path.exists():
        return []
    try:
        whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        decisions = [Decision(**json.loads(line)) for line in whole]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from error
    return [decisions[at : at + members] for at in range(0, len(decisions) - members + 1, members)]


def take_over(learner: Learner, folder: Path) -> None:
    """Give a learner the networks, statistics and moments of a checkpoint; counts and noise stay its own."""
    saved = load_tree(folder, ("trainer/learner/",))["trainer"]["learner"]
    learner.restore({**saved, "learner_steps": learner.learner_steps, "noise": learner.noise.state()})
