"""What torch has at `torch.nn` and belongs to training: `utils`."""

from torchwise.nn import utils

__all__ = ["utils"]
