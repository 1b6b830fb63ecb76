"""Training: a run directory, the roles that move in it, and runners."""
