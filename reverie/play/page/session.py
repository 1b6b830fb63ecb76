"""A visitor's play: a world, N dreams of it, somebody at the wheel, and moments that can be gone back to.

::

    position     0       1       2       3                 back to 1, then another action
    world       o_0 -a-> o_1 -a-> o_2 -a-> o_3      ==>    o_0 ---> o_1 -b-> o_2'
    dream       s_0 -a-> s^_1-a-> s^_2-a-> s^_3            s_0 ---> s^_1-b-> s^_2'

World and dreams get the same actions. A dream begins from the model's posterior at the world's row, where both agree as
far as the model can tell the row, and goes on without seeing anything; after `horizon` env_steps it begins anew. Where
the world waits, the dream goes on alone, and begins anew when the world goes on.

A session knows nothing of sockets or threads: it is told `Settings` and commands, and asked for views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reverie.data.rows import ACTION_MASK, OBS, Rows, State
from reverie.envs.env import VectorEnv
from reverie.envs.faults import EnvFault
from reverie.errors import UserError
from reverie.play.page.dreams import Dreamed, Dreams
from reverie.play.page.minds import Dreaming, Thought
from reverie.play.page.moments import Moment, Path
from reverie.play.page.recording import Recorder
from reverie.play.page.subject import Subject
from reverie.play.page.worlds import Live, Recorded, World
from reverie.report.prediction import false_reward
from reverie.run.build import derive

Wheel = Literal["person", "agent", "recorded"]
DREAMS = 16
"""dreams at once, at most"""
SPEED = 60.0
"""moments a second, at most"""
HORIZON = 1000


@dataclass(frozen=True)
class Settings:
    """What a visitor chooses.

    wheel: who chooses actions. speed: moments a second. horizon: env_steps of a dream. likely: dream with the most
    likely latents, not with samples. dreams: how many at once. along: whether the world goes along. patient: time
    waits for the person to choose an action.
    """

    wheel: Wheel = "person"
    speed: float = 8.0
    horizon: int = 50
    likely: bool = False
    dreams: int = 1
    along: bool = True
    patient: bool = False


class Session:
    """One visitor's play with a subject. seed: of its episodes and dreams. recorder: where play is recorded, or None.

    Raises UserError if the environment cannot be made.
    """

    def __init__(self, subject: Subject, seed: int = 0, recorder: Recorder | None = None) -> None:
        self.subject, self.recorder = subject, recorder
        controls = subject.controls
        self.settings = Settings(wheel="person", patient=controls.idle is None)
        self.running = False
        self.waiting = False
        """whether time waits for the person to choose an action"""
        self.said = ""
        """why it does not go on, for people"""
        self._held: np.ndarray | None = None
        self._tapped: np.ndarray | None = None
        self.threshold = subject.threshold
        self._seed, self._starts, self._dreams = seed, 0, 0
        self._script: list[np.ndarray] = []
        self._env: VectorEnv | None = None
        self._world: World
        self.path: Path
        self.fresh()

    # Beginnings

    def fresh(self, seed: int | None = None) -> None:
        """Begin with a fresh episode; seed: of its own [the next one]."""
        if self._env is None:
            self._env = self.subject.environment()
        self._starts += 1
        name = f"play {self._starts}" if seed is None else f"episode {seed}"
        self._begin(Live(self._env, derive(self._seed if seed is None else self.subject.seed, name)))

    def replay(self, number: int | None = None) -> None:
        """Begin with a row of the run's replay, by its number [one by chance]; recorded actions are at the wheel.

        Raises UserError if the run has none.
        """
        if number is None:
            number = int(np.random.default_rng([self._seed, self._starts + 1]).integers(1 << 40))
        start = self.subject.start(number)
        self._starts += 1
        mind, draws = self.subject.mind, 0
        memory = mind.initial() if start.memory is None else start.memory
        world = Recorded(start.rows, 0)
        warmed: list[Rows] = []
        if start.memory is None and not world.rows["is_first"][0]:
            # Nothing before it is known: the memory begins here.
            world.rows["is_first"] = np.ones(1, bool)
        while world.place.count < start.at:
            thought = mind.see(memory, world.rows, self._noise(draws), warmed)
            memory, draws = thought.memory, draws + 1
            warmed.append(world.rows)
            recorded = world.recorded()
            assert recorded is not None
            world.step(recorded)
        self._begin(world, memory, draws, warmed)
        self.settings = replace(self.settings, wheel="recorded", along=True)

    def here(self) -> None:
        """Dream on from here: from the agent's state at the world's row, or within the dream if the world waits.

        Raises UserError where there are no dreams.
        """
        if not self.subject.dreams:
            raise UserError(" ".join(self.subject.mind.lacks))
        now = self.path.now
        self._script = self.path.actions_ahead() or self._script
        state = now.thought.memory
        if now.apart:
            assert now.dreams is not None
            assert now.dreamed is not None
            now.dreams.go(now.dreamed)
            state = now.dreams.state
        self._dreams += 1
        dreams, dreamed = self._dream(state, f"dream on {self._dreams}")
        self.path.replace(replace(now, dreams=dreams, dreamed=dreamed, false=np.zeros(0, bool)))
        self.said = ""

    def _begin(
        self, world: World, memory: State | None = None, draws: int = 0, warmed: list[Rows] | None = None
    ) -> None:
        self._finish()
        mind = self.subject.mind
        memory = mind.initial() if memory is None else memory
        thought = mind.see(memory, world.rows, self._noise(draws), warmed or [])
        self._world, self._script, self.said, self.waiting = world, [], "", False
        self._warmed = warmed or []
        dreams, dreamed = self._dream(thought.memory, f"dream {self._starts} {draws}")
        self.path = Path(
            Moment(
                world.rows,
                world.place,
                True,
                False,
                thought,
                draws + 1,
                None,
                "",
                0.0,
                _picture(world),
                dreams,
                dreamed,
            )
        )
        self._record()

    def _dream(self, state: State, name: str) -> tuple[Dreams | None, Dreamed | None]:
        """Dreams of a state, if there can be some. name: that the seed follows from."""
        if not self.subject.dreams:
            return None, None
        assert isinstance(self.subject.mind, Dreaming)
        seed = derive(self._seed, name)
        dreams = Dreams(self.subject.mind, self.subject.spec, state, self.settings.dreams, seed)
        return dreams, dreams.now

    # Time

    def step(self) -> bool:
        """Go on by one moment. Returns False where it does not, and `said` says why; nothing has changed then.

        Raises UserError if the world cannot come back to this moment, or its environment fails.
        """
        now, settings = self.path.now, self.settings
        along = settings.along and not now.left
        over = along and bool(now.rows["is_last"][0])
        if not along and not self._goes_on_alone(now):
            return False
        if over and isinstance(self._world, Recorded):
            self.said = "The recording ends here, with its episode."
            return False
        action, by = (None, "") if over else self._decide(now, along)
        if action is None and not over:
            return False
        draws, moved = now.draws + 1, False
        if along:
            try:
                self._world.go(now.place, now.rows)
                moved = self._world.step(self._nothing() if action is None else action)
            except EnvFault as fault:
                raise UserError(f"the environment failed: {fault}; begin a fresh episode") from fault
            if not moved and now.dreams is None:
                self.said = "The recording did not go this way, and there is no dream that could."
                return False
        rows, place, thought, score = now.rows, now.place, now.thought, now.score
        if moved:
            rows, place = self._world.rows, self._world.place
            thought = self.subject.mind.see(now.thought.memory, rows, self._noise(draws), self._before())
            score = 0.0 if rows["is_first"][0] else now.score + float(rows["reward"][0])
        dreams, dreamed = self._dream_on(now, action, moved, rows, thought)
        apart = dreams is now.dreams and (now.apart or not moved)
        false = self._false(rows, dreamed) if dreamed is not None and dreamed.step and not apart else None
        self._follow(action, by)
        self.path.append(
            Moment(
                rows,
                place,
                moved,
                now.left or (along and not moved),
                thought,
                draws + 1,
                action,
                by,
                score,
                _picture(self._world) if moved else now.picture,
                dreams,
                dreamed,
                apart,
                np.zeros(0, bool) if false is None else false,
            )
        )
        self.said = ""
        if moved:
            self._record()
        return True

    def back(self, by: int = 1) -> None:
        """Go back by so many moments, or forward if it is negative, as far as they are kept."""
        self.to(self.path.position - by)

    def to(self, position: int) -> None:
        """Go to a moment that is kept."""
        self.path.to(position)
        self.said, self.waiting = "", False

    def change(self, **chosen: Any) -> None:
        """Change settings. Another number of dreams begins them anew from here."""
        before, self.settings = self.settings, replace(self.settings, **chosen)
        self.said, self.waiting = "", False
        if self.settings.dreams != before.dreams and self.subject.dreams:
            self.here()

    def hold(self, action: Any) -> None:
        """Take an action of the person's at every moment from now on, at least at one; None: no longer.

        Raises UserError unless it is one of this environment.
        """
        self._held = None if action is None else self.subject.controls.action(action)
        self._tapped = self._tapped if self._held is None else self._held
        self.waiting = self.waiting and self._held is None

    def record(self, on: bool) -> None:
        """Record from the beginning of the open episode on, or finish the recording.

        Raises UserError if there is no folder to record into.
        """
        if self.recorder is None:
            raise UserError("nothing is recorded here: start it with `reverie play RUN --record DIR`")
        if not on:
            self._finish()
        self.recorder.on = on
        self._record()

    def close(self) -> None:
        """Finish the recording and close the environment."""
        self._finish()
        if self._env is not None:
            self._env.close()

    # Who acts

    def _decide(self, now: Moment, along: bool) -> tuple[np.ndarray | None, str]:
        wheel = self.settings.wheel
        action: np.ndarray | None
        if wheel == "agent":
            if along:
                return now.thought.action, "agent"
            assert isinstance(self.subject.mind, Dreaming)
            assert now.dreams is not None
            assert now.dreamed is not None
            now.dreams.go(now.dreamed)
            return self.subject.mind.decide(now.dreams.state, self._noise(now.draws)), "agent"
        if wheel == "recorded":
            action = None
            if along and isinstance(self._world, Recorded):
                self._world.go(now.place, now.rows)
                action = self._world.recorded()
            script = self.path.actions_ahead() or self._script
            if action is None and script:
                action = script[0]
            if action is None:
                self.said = "There are no recorded actions from here on."
            return action, "recorded"
        action = self._held if self._held is not None else self._tapped
        if action is None and not self.settings.patient and self.subject.controls.idle is not None:
            action = self.subject.controls.action(self.subject.controls.idle)
        if action is None:
            self.said, self.waiting = "Time waits for you: choose an action.", True
        elif along and not self._allowed(now.rows, action):
            self.said = "This action may not be taken here."
            return None, ""
        return action, "person"

    def _follow(self, action: np.ndarray | None, by: str) -> None:
        """Keep of what is ahead what can still be followed after an action; None: an episode ended by itself."""
        script = self.path.actions_ahead() or self._script
        self._tapped, self.waiting = None, False
        if action is not None:
            script = script[1:] if by == "recorded" else []
        self._script = script

    def _allowed(self, rows: Rows, action: np.ndarray) -> bool:
        mask = rows.get(OBS + ACTION_MASK) if self.subject.spec.action_mask else None
        return mask is None or action.ndim != 1 or bool(mask[0][int(action[0])] > 0.5)

    def _goes_on_alone(self, now: Moment) -> bool:
        """Whether the dream goes on where the world does not."""
        dreamed = now.dreamed
        if dreamed is None:
            self.said = "There is no dream, and the world waits."
        elif dreamed.over[0]:
            self.said = "The dream is over: the model says that the episode ends here."
        elif dreamed.step >= self.settings.horizon:
            self.said = f"The dream has reached its horizon of {self.settings.horizon}."
        else:
            return True
        return False

    # Dreams

    def _dream_on(
        self, now: Moment, action: np.ndarray | None, moved: bool, rows: Rows, thought: Thought
    ) -> tuple[Dreams | None, Dreamed | None]:
        dreams, dreamed = now.dreams, now.dreamed
        if dreams is None or dreamed is None:
            return None, None
        if moved and (rows["is_first"][0] or now.apart or dreamed.step >= self.settings.horizon):
            # Going back and on again must lead to the same dream.
            return self._dream(thought.memory, f"dream {self._starts} {now.draws + 1}")
        assert action is not None
        dreams.go(dreamed)
        dreams.step(action, self.settings.likely)
        return dreams, dreams.now

    def _false(self, rows: Rows, dreamed: Dreamed) -> np.ndarray:
        """Dreamed rewards that the world did not pay, bool [N], as the model learns rewards."""
        true = self.subject.learned(float(rows["reward"][0]))
        if true != 0.0:
            self.threshold = min(abs(true) / 2, self.threshold or np.inf)
        predicted = np.array(dreamed.said.numbers["learned_reward"])
        return false_reward(predicted, np.full_like(predicted, true), self.threshold) & ~dreamed.done

    # What it stands on

    def _before(self) -> list[Rows]:
        """Rows before the one that comes next, oldest first, as many as a memory is warmed up with."""
        wanted, found = self.subject.context, []
        for moment in self.path.back():
            if moment.moved:
                found.append(moment.rows)
                if len(found) >= wanted:
                    break
        if len(found) < wanted and self.path.range[0] == 0:
            found += self._warmed[::-1][: wanted - len(found)]
        return found[::-1]

    def _noise(self, draws: int) -> np.ndarray:
        """Uniform numbers [1, n] of the mind's next thought, a function of the seed and of how many came before."""
        return np.random.default_rng([self._seed, self._starts, draws]).random((1, self.subject.mind.noise))

    def _nothing(self) -> np.ndarray:
        field = self._world.rows["prev_action"]
        return np.zeros_like(field)

    def _finish(self) -> None:
        """Have what is open recorded, as far as it was not taken back."""
        if self.recorder is not None:
            live = isinstance(getattr(self, "_world", None), Live)  # at first there is none
            self.recorder.finish(self.path.episode() if live else [])

    def _record(self) -> None:
        if self.recorder is not None and isinstance(self._world, Live):
            self.recorder.add(self.path.episode())


def _picture(world: World) -> np.ndarray | None:
    return world.picture if isinstance(world, Live) else None
