"""What both DQNs that are raced have in common."""

BATCH, HIDDEN, UPDATES = 32, 256, 200
"""rows of an update, units of each of two layers, updates of a round"""
PREFILL, REPLAY, EPSILON = 1000, 20_000, 0.05
"""env_steps before the first update, rows that are stored, share of random actions after them"""
PONG_ROUND = 400
"""env_steps of a round on Pong, with an update after every fourth"""
