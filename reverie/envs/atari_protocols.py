"""Named Atari protocols: frozen sets of flags under which published scores were measured."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class AtariProtocol:
    """Every choice that changes what an agent sees or scores. Rewards are never clipped by the environment.

    size: side of the square frame (pixels, area-averaged). grayscale: one channel, else RGB.
    frame_skip: frames per env_step, the action held. max_pool: pixel-wise maximum over the last two of them.
    sticky: probability that the emulator repeats the previous action at a frame instead of the chosen one.
    full_actions: all 18 actions, else those the game uses.
    noop_max: each game begins with 0 to this many no-op frames, drawn uniformly.
    life_loss: a lost life is a true end (is_terminal) for learning; the game goes on.
    max_frames: longest game (frames, no-ops not counted); reached, it is a time limit (is_last, not is_terminal).
    """

    size: int
    grayscale: bool
    frame_skip: int
    max_pool: bool
    sticky: float
    full_actions: bool
    noop_max: int
    life_loss: bool
    max_frames: int


DREAMER = AtariProtocol(
    size=64,
    grayscale=True,
    frame_skip=4,
    max_pool=True,
    sticky=0.25,
    full_actions=False,
    noop_max=30,
    life_loss=False,
    max_frames=108_000,
)
"""DreamerV2's 200M-frame protocol, with the minimal action set of the released code; the paper's text says the full
set (``full_actions=True``). Source: Hafner et al. 2021, section 3 and appendix; github.com/danijar/dreamerv2, ``atari``
configuration. Differs in: the released code draws 1 to 30 no-ops, here 0 to 30."""

MACHADO = replace(DREAMER, size=84, full_actions=True, noop_max=0)
"""The value line's protocol: sticky actions are the only randomness, all 18 actions, 30-minute games.
Source: Machado et al. 2018, "Revisiting the Arcade Learning Environment", section 5; 84x84 from Mnih et al. 2015."""

ATARI100K = replace(DREAMER, grayscale=False, sticky=0.0, noop_max=29)
"""The Atari 100k protocol of DreamerV3 in 2023 and of HarmonyDream: 64x64 RGB, no sticky actions, 0 to 29 no-ops,
minimal actions. Source: Hafner et al. 2023, ``atari100k`` configuration; Ma et al. 2024, appendix on Atari 100k."""

DQN2015 = replace(DREAMER, size=84, sticky=0.0, life_loss=True, max_frames=18_000)
"""The 2015 DQN protocol: no sticky actions, at most 30 no-ops, minimal actions, a lost life ends the episode for
learning, games of at most 5 minutes (18 000 frames). Source: Mnih et al. 2015, Methods and Extended Data Table 1; life
loss as in the released code. Report scores from ``game_return`` or with ``life_loss=False``."""

PROTOCOLS: dict[str, AtariProtocol] = {
    "atari": DREAMER,
    "atari-84": MACHADO,
    "atari100k": ATARI100K,
    "atari-dqn2015": DQN2015,
}
