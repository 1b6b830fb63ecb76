"""What both DreamerV2s that are raced have in common. Standard library only."""

SHAPES = {"dreamerv2": (64, 16), "dreamerv2-small": (32, 8)}
"""rows of a window and windows of a batch"""
IMAGE, ACTIONS, HORIZON = 64, 6, 15
"""pixels of a side, of three colours; actions; states of a dream"""
DETER, HIDDEN, LATENTS, CLASSES, DEPTH, UNITS, LAYERS = 256, 256, 16, 16, 16, 256, 4
"""of the memory, the layers around it, its latents; channels of the first convolution; of all other networks"""
LAST = 0.02
"""how likely a row ends its episode"""
