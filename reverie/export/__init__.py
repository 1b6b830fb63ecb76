"""Policies and world models that leave the library: as ONNX, as `torch.export`, and as a page without Python."""
