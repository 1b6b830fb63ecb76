"""Rows, sequence replay, selectors, limiter and chunk files."""
