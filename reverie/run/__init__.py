"""Roles, runners and checkpoints."""
