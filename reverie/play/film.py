"""Dreams while training: what the world model foresees, as a film, as ``reverie dream`` shows it of a finished run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from reverie.agents.agent import Noise, placed
from reverie.agents.learner import load_tensors, tensors_of
from reverie.agents.worldmodel import HasWorldModel
from reverie.errors import UserError
from reverie.play.dream import predict
from reverie.play.model import LoadedModel, held_out
from reverie.report.video import side_by_side
from reverie.run.build import build_agent, build_env, derive
from reverie.run.callback import Callback
from reverie.run.run import Run


class Dreams(Callback):
    """Films ``dreams/<image>`` every so many env_steps: truth, dream, difference; one column per sequence.

    context: rows that the model sees first. horizon: env_steps that it dreams then. sequences: fresh ones, played by
    the policy of the moment on environments of their own. Networks are copied, so that nothing of the run is touched.
    """

    def __init__(self, every: int = 10_000, context: int = 5, horizon: int = 20, sequences: int = 4) -> None:
        for name, value in {"every": every, "context": context, "horizon": horizon, "sequences": sequences}.items():
            if value < 1:
                raise UserError(f"dreams: {name} must be at least 1, got {value}")
        self.every, self.context, self.horizon, self.sequences = every, context, horizon, sequences

    def begin(self, run: Run) -> None:
        """Make environments and copies of the networks. Raises UserError if there is nothing to dream, or to see."""
        config = run.config
        env = build_env(config, min(self.sequences, 4))
        agent = build_agent(config, env.spec)
        if not isinstance(agent, HasWorldModel):
            raise UserError(f"{config.name} has no world model to dream with; leave dreams out of log.callbacks")
        device = run.learner.device
        with torch.random.fork_rng(devices=[]):  # the first parameters, which are not used, take random numbers
            policy = agent.policy()
            model = agent.model(policy)
        noise = Noise(derive(config.run.seed, "films"), device)
        parts = (placed(policy, device).eval(), placed(model, device).eval())
        self.loaded = LoadedModel(config, env, *parts, noise, 0)
        if not self.loaded.images:
            raise UserError(f"{config.env.id} has no image that {config.name} could dream; leave dreams out")

    def round(self, run: Run) -> None:
        """Show a film, if it is time and something was learned."""
        if not run.passed(self.every) or not run.clock.learner_steps:
            return
        loaded = replace(self.loaded, env_steps=run.clock.env_steps)
        trained = {name: t for name, t in tensors_of(run.learner).items() if name.startswith(("policy.", "model."))}
        load_tensors(torch.nn.ModuleDict({"policy": loaded.policy, "model": loaded.model}), trained)
        seed = derive(run.config.run.seed, f"films {run.clock.env_steps}")
        sequences = held_out(loaded, self.sequences, self.context, self.horizon, seed)
        for key in loaded.images:
            parts = [predict(loaded, sequence, key, self.context, self.horizon, 1) for sequence in sequences]
            longest = max(self.context + int(part.outcomes.valid.sum()) for part in parts)
            truth, dream = (np.stack([getattr(p, what)[:longest] for p in parts]) for what in ("truth", "dream"))
            run.pictures(f"dreams/{key}", side_by_side(truth, dream))

    def end(self, run: Run) -> None:
        """Close its environments."""
        self.loaded.env.close()
