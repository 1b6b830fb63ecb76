"""A window in which an evaluation is watched while it is played."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.errors import UserError


class Window:
    """Window with pictures uint8 [H, W, 3], at most `fps` of them a second; closing it closes nothing else.

    Raises UserError if pygame is not installed, or there is no screen.
    """

    def __init__(self, title: str, fps: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise UserError("a window needs pygame; install it with: pip install 'reverie-rl[play]'") from error
        self._pygame: Any = pygame
        self._title, self._fps = title, fps
        try:
            pygame.display.init()
        except pygame.error as error:
            raise UserError(
                f"no window can be opened here ({error}); use --video, or a machine with a screen"
            ) from error
        self._clock = pygame.time.Clock()
        self._screen: Any = None
        self.open = True

    def add(self, frame: np.ndarray) -> None:
        """Show a picture, when its time has come."""
        if not self.open:
            return
        pygame = self._pygame
        if not pygame.display.get_init():  # environments that draw by pygame end it when they are closed
            pygame.display.init()
            self._screen = None
        if self._screen is None:
            self._screen = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
            pygame.display.set_caption(self._title)
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()
            return
        pygame.surfarray.blit_array(self._screen, frame.swapaxes(0, 1))
        pygame.display.flip()
        self._wait()

    def _wait(self) -> None:
        """Return when the next picture is due."""
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        if self.open:
            self.open = False
            self._pygame.display.quit()

    def drop(self) -> None:
        """Close the window, too."""
        self.close()
