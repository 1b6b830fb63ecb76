"""Pure tensor functions: equation and source in each docstring; imports torch and nothing of ours."""
