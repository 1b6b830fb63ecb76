"""Sizes of the replays that are raced."""

STREAMS, ROWS = 8, 40_000
"""streams of a call that inserts, and rows that are stored, of 84 x 84 bytes each"""
CALLS = 1000
"""calls that insert, of a round"""
SEQUENCES, LENGTH, BATCH, DRAWS = 512, 120, 64, 10
"""sequences that are stored, rows of one, sequences of a batch, batches of a round"""
