"""The command line: look into checkpoints, compare and convert them, without torch."""

from torchwise.cli.program import main

__all__ = ["main"]
