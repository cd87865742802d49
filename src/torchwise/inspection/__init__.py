"""What a checkpoint holds, as lines of text."""

from torchwise.inspection.description import describe

__all__ = ["describe"]
