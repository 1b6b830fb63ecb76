"""Using one run: its policy, evaluations, predictions and dreams."""
