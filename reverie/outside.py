"""Modules of the user's own: environments and agents that are named by ``package.module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType

from reverie.errors import UserError


def import_outside(name: str, path: str) -> ModuleType:
    """The module at a dotted path, also if it lies in the current directory.

    name: what the user wrote, for the message. Raises UserError, in one line, if it cannot be imported.
    """
    if not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{name}: {path!r} is no module; write package.module:attribute, without slashes or .py")
    # As `python -m` does: a user's module beside the current directory is found. Last, so that it shadows nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: there is no module {error.name!r}; install it or add its folder to PYTHONPATH"
        ) from None
    except Exception as error:  # whatever somebody else's module raises
        told = UserError(
            f"{name}: module {path} cannot be imported: {' '.join(f'{type(error).__name__}: {error}'.split())}"
        )
        told.detail = traceback.format_exc()
        raise told from error
