"""Reverie: agents that remember and dream."""
