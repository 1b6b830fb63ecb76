"""Runs by their directories: one begins, or goes on from its newest checkpoint, with the runner that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie import overrides
from reverie.agents import find
from reverie.config import POPULATION, Config, with_settings
from reverie.errors import UserError
from reverie.report.writer import Writer
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.checkpoint import Checkpoints
from reverie.run.fixed import check_change, misfitting
from reverie.run.local import Local
from reverie.run.lock import alone, check_new, check_platform, interruptible
from reverie.run.offline import Offline, for_dataset
from reverie.run.overlapped import Overlapped
from reverie.run.preflight import check_one_learner
from reverie.run.runner import Runner
from reverie.run.saved_config import load_chain, save_chain, save_config, versions, withdraw
from reverie.run.turns import Turns
from reverie.run.zoo import check_whole, resolve

if TYPE_CHECKING:
    from reverie.run.distributed import Distributed


@contextmanager
def runner(
    config: Config,
    run_dir: Path,
    chain: Chain | None = None,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
) -> Iterator[Runner]:
    """Context of the runner for a run: beside its actor, without one, or connected to Ray if there are several.

    Arguments as in `Runner`. Its environments and threads are closed after an error too.
    Raises UserError if Ray is asked for and missing, or there is no cluster at its address.
    """
    check_one_learner(config)
    with ExitStack() as stack:
        made: Runner
        if config.dataset.path:
            made = Offline(config, run_dir, chain, writers, callbacks)
        elif not config.ray.actors:
            made = beside(config)(config, run_dir, chain, writers, callbacks)
        else:
            from reverie.run.cluster import connected

            ray = stack.enter_context(connected(config.ray))
            made = elsewhere(config)(config, run_dir, ray, chain, writers, callbacks)
        try:
            yield made
        except BaseException:
            with suppress(Exception):  # that of before says what happened
                made.close()
            raise


def beside(config: Config) -> type[Local] | type[Turns]:
    """The runner that acts in this process: which one is the agent's matter, then the run's."""
    if find(config.name).load().asynchronous:
        return Turns
    return Overlapped if config.run.overlap else Local


def elsewhere(config: Config) -> type[Distributed]:
    """The runner whose actors are in processes of their own: which one is the agent's matter, then the run's."""
    from reverie.run.asynchronous import Asynchronous
    from reverie.run.central import Central
    from reverie.run.distributed import Distributed
    from reverie.run.learners import shared
    from reverie.run.sharded import Sharded

    if find(config.name).load().asynchronous:
        return Asynchronous
    central = config.ray.inference == "central"
    kind = Central if central else Sharded if config.ray.shards else Distributed
    return shared(kind) if config.ray.learners > 1 else kind


def train(
    config: Config, run_dir: str | Path, *, writers: Sequence[Writer] = (), callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Summary of a run that begins in a new directory and is trained to its end, see `Runner.train`.

    writers, callbacks: beside those that ``config.log`` names; `resume` must be given them again.
    """
    check_platform()
    run_dir = Path(run_dir)
    check_new(run_dir)
    overrides.from_dict(config, overrides.to_dict(config))  # what was made in Python has the same bounds
    check_one_learner(config)
    if config.population.size:
        from reverie.run import population

        return population.begin(config, run_dir, writers=writers, callbacks=callbacks)
    config = for_dataset(config)
    with interruptible() as stop, runner(config, run_dir, None, writers, callbacks) as new, alone(run_dir):
        check_new(run_dir)  # another process may have been faster
        new.begin()
        new.run.rehearse()
        save_config(config, run_dir)
        try:
            return new.train(stop)
        except BaseException:
            withdraw(run_dir)
            raise


def resume(
    run_dir: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Summary of a run that goes on from its newest checkpoint (from the start if there is none yet), exactly.

    changes: dotted keys that have other values from there on, see `reverie.run.transition`; the configuration before is
    kept in ``config.json``. Raises UserError if the run cannot go on with them; it is then left as it was.
    writers, callbacks: as in `train`.
    """
    check_platform()
    run_dir = resolve(run_dir)
    if (run_dir / POPULATION).exists():
        from reverie.run import population

        return population.go_on(run_dir, changes, writers=writers, callbacks=callbacks)
    if (run_dir.parent / POPULATION).exists():
        raise UserError(
            f"{run_dir} is a member of the population {run_dir.parent}; go on with all: reverie resume {run_dir.parent}"
        )
    check_whole(run_dir)
    with interruptible() as stop:
        saved = load_chain(run_dir)
        chain = changed(saved, changes, run_dir) if changes else saved
        with runner(chain.config, run_dir, chain, writers, callbacks) as old, alone(run_dir):
            try:
                old.restore()
            except UserError as error:
                if chain is saved:
                    raise
                raise misfitting(run_dir, changes or {}, error, saved.config) from error
            if chain is not saved:
                save_chain(chain, run_dir)
            try:
                return old.train(stop)
            except BaseException:
                if chain is not saved and not old.run.begun:  # a writer that failed, say: nothing has moved yet
                    save_chain(saved, run_dir)
                raise


def changed(saved: Chain, changes: Mapping[str, Any], run_dir: Path) -> Chain:
    """The chain of a run with other values of these keys in force from its newest checkpoint on.

    Raises UserError for keys that cannot change.
    """
    config = with_settings(saved.config, changes)
    made = Checkpoints(run_dir).head()
    check_change(saved.config if made is None else saved.at(int(made.get("generation", 0)))[0], config)
    return Chain(config, versions()) if made is None else saved.followed_by(config, made, versions())
