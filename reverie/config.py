"""The configuration of a run: one tree of frozen dataclasses, saved beside the run, never edited by an agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from reverie import overrides
from reverie.data.selectors import SELECTORS, SelectorConfig, UniformConfig
from reverie.data.sequences import SequenceSpec, StateKind
from reverie.errors import UserError
from reverie.machine import memory_of, read_size, share_of
from reverie.nets.schedule import check, schedule
from reverie.overrides import Choice


@dataclass(frozen=True)
class EnvConfig:
    """id: of the environment, see `reverie list envs`. num_envs: streams of the run.

    protocol: one of those that the environment's family has by name; ``auto``: its first.
    options: of the environment or its adapter, see docs/environments.md.
    """

    id: str = "toy/catch"
    num_envs: int = 1
    protocol: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    check: Literal["first", "all", "none"] = "first"
    """rows that are held to the declared spaces: the first of every stream, all, or none"""
    restarts: int = 0
    """how often the environment of a stream is made anew after it raised; its episode is cut and a new one begins"""
    workers: int = 0
    """processes that share the streams, for slow environments; 0: they are stepped one after another"""

    def __post_init__(self) -> None:
        _at_least(1, num_envs=self.num_envs)
        _at_least(0, restarts=self.restarts, workers=self.workers)


@dataclass(frozen=True)
class WindowConfig:
    """Windows that are trained on; lengths in rows, see `reverie.data.sequences.SequenceSpec`.

    context: rows of burn-in; what an agent needs beside them (frames of a stack, rows to bootstrap from) it adds
    itself, see `reverie.Agent.windows`. learn: rows with a loss. period: windows begin at every so many rows.
    state: before the first row of a window: zero, or the one that was stored when it was played.
    drift: measure how far recurrent states drift (``train/drift_first``, ``train/drift_last``); keeps the actor's.
    """

    context: int = 0
    learn: int = 50
    period: int = 1
    state: StateKind = "zero"
    drift: bool = False

    def __post_init__(self) -> None:
        self.asked()

    def asked(self) -> SequenceSpec:
        """The windows that are asked for, without lookahead. Raises ValueError as `SequenceSpec` does."""
        return SequenceSpec(self.context, self.learn, 0, self.period, self.state, self.drift)


@dataclass(frozen=True)
class StoreConfig:
    """Size of the store. budget: bytes of rows in memory (8GB, or 50% of what there is). chunk: rows of one stream per
    sealed file on disk.

    place: where the rows are, ``host`` for the machine's memory, or ``device`` for that of the learner's GPU: batches
    are then gathered there, and no row travels more than once.
    """

    budget: Annotated[int, PlainValidator(read_size)] = 2_000_000_000
    place: Literal["host", "device"] = "host"
    chunk: int = 1024

    def __post_init__(self) -> None:
        if isinstance(self.budget, str):
            object.__setattr__(self, "budget", share_of(read_size(self.budget), memory_of(self.place).total))
        _at_least(1, budget=self.budget, chunk=self.chunk)


@dataclass(frozen=True)
class ReplayConfig:
    """Contents of the replay and of a batch. batch: windows per learner_step.

    selector: which windows are drawn, chosen by name (``replay.selector = prioritised``) and then set up
    (``replay.selector.alpha = 0.9``); names and their settings: `reverie.data.selectors.SELECTORS`.
    """

    batch: int = 16
    window: WindowConfig = field(default_factory=WindowConfig)
    selector: Annotated[SelectorConfig, Choice(SELECTORS)] = field(default_factory=UniformConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        _at_least(1, batch=self.batch)
        if self.selector.any_start and self.window.period != 1:
            name = Choice(SELECTORS).name(self.selector)
            raise ValueError(f"the selector {name!r} needs period = 1, got {self.window.period}")


@dataclass(frozen=True)
class RunConfig:
    """Length of a run, how often what happens, and on what.

    seed: of everything random. device: auto (the GPU when there is one), cpu, cuda or cuda:N.
    precision: of the networks; auto: bfloat16 on a GPU, float32 on a CPU. float32 on a GPU rounds factors to TF32.
    compile: parts of the networks by torch.
    frames: length of the run (env_steps x action repeat). prefill: env_steps of random actions first.
    pretrain: learner_steps once the prefill is there; without pacing there are none.
    train_ratio: trained_rows per env_step (after the prefill); None: no pacing, windows are trained on as they come,
        which needs a selector that draws each of them once (``replay.selector = fifo``).
    log_every: env_steps between log lines. checkpoint_every: env_steps between checkpoints.
    eval_every: env_steps between evaluations; 0: only at the end. eval_episodes: of each evaluation; 0: there are none.
    eval_envs: streams that share them. keep_checkpoints: how many of the newest are kept; of more
        than two, the others with networks to begin from (``init.run``), without their rows.
    """

    seed: int = 0
    frames: int = 1_000_000
    env_steps: int | None = None
    """length of the run in env_steps instead of frames"""
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    capture: bool = False
    """record an update as one CUDA graph and replay it, see `reverie.agents.capture`; needs a GPU"""
    threads: int = 0
    """CPU threads of torch; 0: all cores"""
    prefill: int = 1000
    pretrain: int = 1
    train_ratio: float | None = 50.0
    publish_every: int = 0
    """learner_steps after which actors take over newer parameters; 0: they act with the learner's own networks"""
    overlap: int = 0
    """learner_steps made in a thread beside decisions, at most, see `reverie.run.overlapped`; 0: none"""
    ahead: int = 0
    """batches drawn and copied ahead of the update that learns from them; 0: the exact order"""
    log_every: int = 1000
    checkpoint_every: int = 10_000
    eval_every: int = 0
    eval_episodes: int = 10
    eval_envs: int = 1
    eval_limit: int = 30_000
    """env_steps after which an episode of an evaluation is cut, which is said; 0: never. Atari's longest has 27 000"""
    nonfinite: Literal["stop", "warn"] = "stop"
    """what follows on an observation, reward, action, loss or parameter that is not finite: the end, or a notice"""
    keep_checkpoints: int = 2
    keep_best: bool = True
    """keep the networks of the evaluation with the highest mean score too, as checkpoint ``best``"""

    def __post_init__(self) -> None:
        _at_least(1, frames=self.frames, eval_envs=self.eval_envs, keep_checkpoints=self.keep_checkpoints)
        _at_least(1, env_steps=1 if self.env_steps is None else self.env_steps)
        _at_least(0, seed=self.seed, threads=self.threads, prefill=self.prefill, pretrain=self.pretrain)
        if self.threads > 1024:
            raise ValueError(f"threads must be at most 1024, got {self.threads}")
        _at_least(0, publish_every=self.publish_every, overlap=self.overlap, ahead=self.ahead)
        _at_least(0, log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        _at_least(0, eval_every=self.eval_every, eval_episodes=self.eval_episodes, eval_limit=self.eval_limit)
        if self.train_ratio is not None and not 1e-6 <= self.train_ratio < float("inf"):
            raise ValueError(f"train_ratio must be finite and at least 1e-6, or none, got {self.train_ratio}")

    @property
    def follow_every(self) -> int:
        """learner_steps after which an actor beside the learner takes over newer parameters; 0: it has the learner's.

        With overlap it has parameters of its own, since the learner's change in a thread while it decides.
        """
        return self.publish_every or int(self.overlap > 0)


@dataclass(frozen=True)
class LogConfig:
    """Whom a run tells, besides ``metrics.jsonl``; a name or ``package.module:Class``, see docs/logging.md.

    writers: where metrics go too: ``tensorboard``, ``wandb``, ``mlflow``, or another package's.
    callbacks: what is done on the way: ``dreams``, ``histograms``, or another package's.
    options: of each of them, under its name (``log.options.wandb.project = maze``; of a class, under the class's).
    """

    writers: tuple[str, ...] = ("tensorboard",)
    callbacks: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RayConfig:
    """Actors in processes of their own, on the engine Ray (docs/distributed.md).

    actors: processes, which share the env.num_envs streams equally; 0 is the local runner, which needs no Ray.
    learners: processes that share each batch of replay.batch windows and make every learner_step together, this one
    among them; docs/distributed.md says which agents can.
    inference: who decides: each ``actor`` with parameters of its own, or this process for all of them, in batches, with
    the learner's (``central``).
    address: ``local`` for a private cluster of this machine, ``auto`` or host:port for one that was started by hand.
    rows: of a stream per chunk and rollout; 0: the windows' period, repeated up to at least 20.
    in_flight: rollouts of each actor that are ordered or wait to be collected. threads: CPU threads of each actor.
    memory: bytes of the object store of a private cluster.
    patience: seconds until all actors must be there. silence: seconds without a report, or ten times the usual ones,
    after which an actor is replaced. crashes: lives of one actor in a row that may end before the first report.
    shards: processes that hold the replay, each that of some actors; 0: the learner's process holds it.
    requests: batches that may be under way from the shards while the learner updates.
    """

    actors: int = 0
    learners: int = 1
    inference: Literal["actor", "central"] = "actor"
    address: str = "local"
    rows: int = 0
    in_flight: int = 2
    threads: int = 1
    memory: int = 500_000_000
    patience: float = 120.0
    silence: float = 60.0
    crashes: int = 2
    shards: int = 0
    requests: int = 3

    def __post_init__(self) -> None:
        _at_least(0, actors=self.actors, rows=self.rows, crashes=self.crashes, shards=self.shards)
        _at_least(1, learners=self.learners, in_flight=self.in_flight, threads=self.threads, requests=self.requests)
        _at_least(80_000_000, memory=self.memory)
        if not (self.patience > 0 and self.silence > 0):
            raise ValueError(f"patience and silence must be positive, got {self.patience} and {self.silence}")
        if self.inference == "central" and not self.actors:
            raise ValueError(
                "there are no actors to decide for: set ray.actors (--actors); without any, one policy decides for all "
                "streams in any case"
            )


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class InitConfig:
    """Networks that a run begins with, see `reverie.run.init`.

    run: directory of another run; empty: fresh networks.
    checkpoint: which of that run's, ``latest``, ``best`` or env_steps.
    parts: names in its module tree (``encoder``, ``policy.rssm``); none: all networks, which must be the same.
    """

    run: str = ""
    checkpoint: str = "latest"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.parts and not self.run:
            raise ValueError("init.parts are of the run that init.run names, which is missing")
        if self.checkpoint != "latest" and not self.run:
            raise ValueError("init.checkpoint is of the run that init.run names, which is missing")


@dataclass(frozen=True)
class DatasetConfig:
    """Rows that a run learns from in place of its own, see `reverie.run.offline`.

    path: folder of chunk files, such as the ``replay`` of another run, or ``minari:`` and the name of a dataset of
        Minari; empty: the run acts.
    rewards: of the rows: as they are ``stored``, or as this run's environment pays them when the same episodes are
    ``played`` again (`reverie.run.relabel`).
    """

    path: str = ""
    rewards: Literal["stored", "played"] = "stored"

    def __post_init__(self) -> None:
        if self.rewards != "stored" and not self.path:
            raise ValueError("dataset.rewards are of the rows that dataset.path names, which is missing")


POPULATION = "population.json"
"""takes the place of ``config.json`` in the directory of a population, whose members are run directories below it"""


@dataclass(frozen=True)
class PopulationConfig:
    """Population-based training, see `reverie.run.population` and docs/population.md.

    size: members that are trained side by side; 0: there is no population.
    every: env_steps of each member between two decisions, a share of its run or a count. burn_in: before the first one.
    vary: key -> where a member's value comes from at first: two numbers are a range in which its logarithm is drawn
        evenly, more are the values that there are. Empty: IMPALA's of entropy, learning rate and epsilon.
    exploit: ``tournament``, one rival drawn for each, or ``truncation``, the worst copy the best. margin: by how much
        fitness must be better to be copied. share: of the members that are the worst, and the best (truncation).
    explore: hyper-parameters change ``always``, or only of who has ``copied``. chance: of each to change.
    factor: what it is multiplied or divided by. episodes: that a member must have ended since its last decision.
    """

    size: int = 0
    every: float = schedule("env_steps", 0.05)
    burn_in: float = schedule("env_steps", 0.1)
    vary: dict[str, Any] = field(default_factory=dict)
    exploit: Literal["tournament", "truncation"] = "tournament"
    margin: float = 0.0
    share: float = 0.2
    explore: Literal["always", "copied"] = "always"
    chance: float = 1 / 3
    factor: float = 1.2
    episodes: int = 20

    def __post_init__(self) -> None:
        check(self)
        _at_least(0, size=self.size)
        _at_least(1, episodes=self.episodes)
        if self.size == 1:
            raise ValueError("a population of one has nobody to copy: size must be 0, or at least 2")
        if not self.every > 0:
            raise ValueError(f"every must be a share of the run in (0, 1], or a number of env_steps, got {self.every}")
        if not (0.0 <= self.chance <= 1.0 and 0.0 < self.share <= 0.5):
            raise ValueError(f"expected chance in [0, 1] and share in (0, 0.5], got {self.chance} and {self.share}")
        if not (self.factor > 1.0 and self.margin >= 0.0):
            raise ValueError(f"expected factor > 1 and margin >= 0, got {self.factor} and {self.margin}")
        object.__setattr__(self, "vary", _dotted(self.vary))
        for key, given in self.vary.items():
            if not isinstance(given, list | tuple) or len(given) < 2 or not all(_positive(value) for value in given):
                raise ValueError(f"vary.{key} must be two or more positive numbers, as in [1e-5, 1e-2], got {given!r}")


@dataclass(frozen=True)
class Config:
    """A whole run. name: of the agent, see `reverie list agents`; agent: its own configuration.

    preset: where the values came from; a saved run does not read it again.
    """

    name: str
    preset: str
    agent: Any
    env: EnvConfig = field(default_factory=EnvConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    run: RunConfig = field(default_factory=RunConfig)
    init: InitConfig = field(default_factory=InitConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)

    def __post_init__(self) -> None:
        streams, actors = self.env.num_envs, self.ray.actors
        if actors and (streams < actors or streams % actors):
            nearest = -(-streams // actors) * actors
            raise ValueError(
                f"{streams} streams cannot be shared equally by {actors} actors; set env.num_envs = {nearest}, or "
                "other ray.actors"
            )
        if self.ray.shards > actors:
            raise ValueError(f"each shard is of an actor or more: ray.shards is {self.ray.shards}, ray.actors {actors}")
        if self.run.train_ratio is None and not self.replay.selector.uses_up:
            raise ValueError(
                "run.train_ratio = none draws windows for as long as there are any, which the selector "
                f"{Choice(SELECTORS).name(self.replay.selector)!r} never runs out of; set replay.selector = fifo"
            )


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with other values of these dotted keys; a length in frames replaces one in env_steps.

    Raises UserError for unknown keys, for values that do not fit, and for an end of a schedule that takes no time.
    """
    if "run.frames" in settings:
        config = replace(config, run=replace(config.run, env_steps=None))
    changed = overrides.apply(config, settings)
    before, after = overrides.flatten(config), overrides.flatten(changed)
    for key in settings:
        over = key.removesuffix("_end") + "_over"
        if key.endswith("_end") and after.get(over) == 0 and after.get(key) != before.get(key):
            raise UserError(
                f"{key} = {settings[key]} would not be reached: {over} is 0, which is no schedule; set {over} too, to "
                "a share of the run in (0, 1] or to a count"
            )
    return changed
