"""The command line: ``reverie train dreamerv2 --env toy/catch --agent.rssm.deter 600``.

Errors of the user are one line on standard error and exit code 2. Heavy modules are imported by the commands that need
them, so that help and slips of the keyboard are answered at once. `root` is the group, the other files its commands.
"""

from reverie.cli import evidence, export, keys, play, runs, status, tools, zoo
from reverie.cli.root import cli, main

__all__ = ["cli", "evidence", "export", "keys", "main", "play", "runs", "status", "tools", "zoo"]
