"""Environments: one contract, one adapter per source."""
