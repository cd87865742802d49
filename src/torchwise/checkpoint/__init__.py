"""Checkpoints of torch (`.pt`, `.pth`) and safetensors, read and written without torch."""

from .errors import CheckpointError
from .files import load, save

__all__ = ["CheckpointError", "load", "save"]
