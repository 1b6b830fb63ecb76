"""``python -m reverie.cli``."""

from reverie.cli import main

main()
