"""Agents: one file each, inheriting along published lineage."""
