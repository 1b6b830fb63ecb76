"""Parts of a run from its configuration: device, environment, learner, replay. Seeds are derived by name."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd, isinf
from pathlib import Path

import numpy as np
import torch

from reverie.agents import find
from reverie.agents.agent import Agent, Learner, Policy
from reverie.config import Config
from reverie.data.limiter import Limiter
from reverie.data.outbox import Deliver, Outbox
from reverie.data.record import Record
from reverie.data.replay import Replay
from reverie.data.rows import Field, RowSpec, bytes_of, row_spec
from reverie.data.sequences import SequenceSpec
from reverie.data.store import Store
from reverie.envs.env import EnvSpec, VectorEnv, shut
from reverie.envs.make import make_drawn, make_env
from reverie.envs.stepping import Stepping
from reverie.envs.tasks import tasks_of
from reverie.errors import UserError
from reverie.nets.schedule import Length, resolve
from reverie.run.length import rows_to_come, run_length
from reverie.run.room import CPU, check_batch, check_memory, networks_fit


def derive(seed: int, name: str) -> int:
    """A seed for one user of randomness, independent between names: SeedSequence of (seed, crc32 of the name).

    Raises UserError for a seed below 0.
    """
    if seed < 0:
        raise UserError(f"a seed must be at least 0, got {seed}")
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def pick_device(name: str) -> torch.device:
    """Device of that name; ``auto`` is the GPU when there is one. Raises UserError if torch does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for but torch {torch.__version__} sees no GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise UserError(f"device {name!r} was asked for but torch sees {there}: cuda:0 to cuda:{there - 1}")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Precision of that name; ``auto`` is bfloat16 on a GPU that computes in it (capability 8.0 on), else float32."""
    if name == "auto":
        fits = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fits else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def build_env(config: Config, num_envs: int | None = None, drawn: bool = False, whole: bool = False) -> VectorEnv:
    """Fresh environments of the run's kind and protocol.

    drawn: they have pictures for people, if there can be some. whole: for evaluations, see `Stepping`.
    """
    env, make = config.env, make_drawn if drawn else make_env
    streams = env.num_envs if num_envs is None else num_envs
    workers = env.workers
    if num_envs is not None and workers:
        # Evaluations have streams of their own, and may have fewer than there are processes.
        workers = 0 if drawn or gcd(workers, streams) == 1 else gcd(workers, streams)
    stepping = Stepping(env.check, env.restarts, workers, whole=whole)
    return make(env.id, num_envs=streams, protocol=env.protocol, stepping=stepping, **env.options)


def env_spec(config: Config) -> EnvSpec:
    """What one stream of the run's environments gives, of which one is made and closed again."""
    env = build_env(config, 1)
    shut(env)
    return env.spec


def evaluation_streams(config: Config, episodes: int, id: str | None = None) -> int:
    """Streams of an evaluation of so many episodes, of each task where there are several. id: another environment."""
    return min(config.run.eval_envs, episodes) * max(1, len(tasks_of(config.env.id if id is None else id)))


def build_agent(config: Config, env: EnvSpec, since: Length | None = None) -> Agent:
    """The recipe of the run's agent, its schedules in counts. Raises UserError if it cannot work here.

    since: see `reverie.run.length.run_length`; whoever only acts needs none.
    """
    recipe = find(config.name).load()
    if env.action_mask and not recipe.masks:
        raise UserError(
            f"{config.name} does not heed action masks, which {env.id} gives: take another agent, or say "
            "--env.options.action_mask ignore"
        )
    if env.tasks and not recipe.tasks:
        raise UserError(
            f"{config.name} learns one environment at a time, not {env.id}: take impala, a2c or tdmpc2, or name one of "
            "them"
        )
    if env.widths and not recipe.padded:
        raise UserError(
            f"{config.name} cannot play {env.id}, whose actions differ in width ({', '.join(map(str, env.widths))}): "
            "take tdmpc2, or environments whose actions are alike"
        )
    fitting = type(recipe.defaults(vars(config.agent)))
    if type(config.agent) is not fitting:
        raise UserError(
            f"{config.name} has settings of {fitting.__name__}, not of {type(config.agent).__name__}: begin with "
            f"make_config({config.name!r}), or name the agent that these are of"
        )
    with _built(config, env):
        return recipe(resolve(config.agent, run_length(config, env.action_repeat, since)), env)


@contextmanager
def _built(config: Config, env: EnvSpec, device: torch.device = CPU) -> Iterator[None]:
    """Context in which a ValueError says what the agent cannot do: a UserError, which names both. So is no memory."""
    try:
        with networks_fit(config, device):
            yield
    except ValueError as error:
        raise UserError(f"{config.name} cannot be built for {env.id}: {error}") from error


def build_windows(config: Config, agent: Agent) -> SequenceSpec:
    """The windows of the run's batches. Raises UserError if the agent cannot be trained on what is asked for."""
    with _built(config, agent.env):
        return agent.windows(config.replay.window.asked())


def build_policy(config: Config, agent: Agent) -> Policy:
    """A policy on the CPU with freshly initialised networks (seeded). Raises UserError if they cannot be built."""
    torch.manual_seed(derive(config.run.seed, "networks"))
    with _built(config, agent.env):
        return agent.policy()


def build_learner(config: Config, agent: Agent, device: torch.device) -> Learner:
    """The learner, around a policy of its own, with freshly initialised networks (seeded)."""
    windows = build_windows(config, agent)
    policy = build_policy(config, agent)
    seed = derive(config.run.seed, "learner")
    with _built(config, agent.env, device):
        learner = agent.learner(policy, windows, seed, device, pick_precision(config.run.precision, device))
    if config.run.compile:
        try:
            learner.compile_parts()
        except NotImplementedError as error:
            raise UserError(f"{config.name}: {error}; set run.compile = false") from error
    return learner


def build_store(config: Config, learner: Learner, env: EnvSpec, folder: Path | None) -> Store:
    """The store of the run: replay, record in a folder (None: none), pacing.

    Raises UserError if the replay does not fit, there are no states to keep, or the directory cannot be written.
    """
    windows, options = learner.windows, config.run
    spec, states = row_specs(config, learner, env)
    try:
        replay = Replay(
            spec,
            windows,
            config.env.num_envs,
            config.replay.store.budget,
            config.replay.selector.make(),
            derive(options.seed, "replay"),
            states=states,
            device=learner.device if config.replay.store.place == "device" else "cpu",
            pin_memory=pins(config, learner.device),
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        memory = "this machine's memory" if isinstance(error, MemoryError) else f"the memory of {learner.device}"
        raise UserError(
            f"a replay of {config.replay.store.budget} bytes does not fit into {memory}; "
            "say how much it may take with --replay.store.budget"
        ) from error
    streams = replay.streams
    most = streams * ((replay.rows_per_stream - windows.length) // windows.period + 1)
    if config.replay.selector.uses_up and most < config.replay.selector.fresh(config.replay.batch):
        raise UserError(
            f"a batch has {config.replay.batch} windows, but the replay holds {most} of {streams} streams at a time: "
            "raise replay.store.budget or lower replay.batch"
        )
    try:
        record = None if folder is None else Record(folder, replay, config.replay.store.chunk)
    except OSError as error:
        assert folder is not None
        raise unwritable(folder, error) from error
    return Store(replay, build_limiter(config, windows), record)


def pins(config: Config, device: torch.device) -> bool:
    """Whether batches lie in page-locked memory, from which a copy does not wait: where one learner takes them whole.

    Several are sent parts of them, and nobody looks when a copy of such a part has been made.
    """
    return device.type == "cuda" and config.ray.learners == 1


def unwritable(folder: Path, error: OSError) -> UserError:
    """What to say of a folder that the rows of a run cannot be written to."""
    return UserError(f"cannot write in {folder}: {error.strerror}; name another --logdir")


def made(folder: Path) -> Path:
    """A folder of a run, which is made if it is not there. Raises UserError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def row_specs(config: Config, learner: Learner, env: EnvSpec) -> tuple[RowSpec, RowSpec | None]:
    """Fields of the run's rows, and of the states that are kept beside them (None: none are).

    Raises UserError if there are no states to keep, or if the replay or a batch does not fit.
    """
    windows = learner.windows
    states = _state_spec(learner.policy) if windows.keeps_states else None
    if windows.keeps_states and not states:
        raise UserError(
            f"{config.name} on {env.id} has no recurrent state to keep: "
            "set replay.window.state = zero and replay.window.drift = false"
        )
    spec = row_spec(env.observation, env.action, learner.policy.extras)
    check_batch(config, config.replay.batch * windows.length * bytes_of(spec), learner.device)
    rows = rows_to_come(config, env.action_repeat)
    if isinf(rows):  # of a published dataset, which is not read yet: as many as the run has env_steps
        rows = run_length(config, env.action_repeat).env_steps
    check_memory(config, rows * (bytes_of(spec) + bytes_of(states or {}) / windows.period), learner.device)
    return spec, states


def build_limiter(config: Config, windows: SequenceSpec) -> Limiter:
    """Pacing of the run from its beginning on."""
    extra = config.run.pretrain * config.replay.batch * windows.learn
    return Limiter(config.run.train_ratio, config.run.prefill, extra=extra)


def build_outbox(
    config: Config,
    deliver: Deliver,
    env: EnvSpec,
    streams: int,
    policy: Policy,
    windows: SequenceSpec,
    chunk: int = 0,
) -> Outbox:
    """Outbox of so many streams, with priorities where the selector uses them. chunk: see `Outbox`."""
    scores = bool(policy.scored) and config.replay.selector.make().takes_priorities
    score = (lambda rows: policy.priorities(rows, windows)) if scores else None
    spec = row_spec(env.observation, env.action, policy.extras)
    return Outbox(deliver, spec, windows, streams, policy.scored, score, policy.device, chunk)


def _state_spec(policy: Policy) -> RowSpec:
    state = policy.initial_state(1)
    return {name: Field(tuple(v.shape[1:]), v.cpu().numpy().dtype) for name, v in state.items()}
