"""Ready-made layouts: how torch names and arranges the arrays of other libraries' layers."""

from torchwise.layouts.equinox import equinox
from torchwise.layouts.flax_linen import flax_linen
from torchwise.layouts.flax_nnx import flax_nnx
from torchwise.state_dict.layout import Rearrangement
from torchwise.state_dict.splits import Split, joined

__all__ = ["Rearrangement", "Split", "equinox", "flax_linen", "flax_nnx", "joined"]
