"""Checkpoints of torch (`.pt`, `.pth`) and safetensors, read and written without torch."""

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.files import load, metadata, save

__all__ = ["CheckpointError", "load", "metadata", "save"]
