"""The page of `reverie play`: a world, the agent's dream of it and the difference, in a browser.

::

    subject   what is played: a run's networks, shared by all tabs
    minds     what an agent makes of a row: its action, its values, its memory, its surprise
    worlds    where rows come from: an environment, or rows that a run recorded
    dreams    N dreams of one state
    session   one visitor's play: moments that can be gone back to, and commands
    messages  what travels: commands in, moments out
    worker    a thread for each visitor
    server    addresses, keys, sockets
"""
