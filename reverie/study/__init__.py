"""Comparing many runs: variants over seeds, and claims that can be made again."""
