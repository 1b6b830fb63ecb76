"""Presets: a function per agent and benchmark that returns a whole config, each number with its source."""
