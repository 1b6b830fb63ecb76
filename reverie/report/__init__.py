"""Logs, videos and curves."""
