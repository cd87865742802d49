"""How much the tensors of one file may cost beside their views."""

from dataclasses import dataclass

from torchwise.checkpoint.errors import CheckpointError


@dataclass
class Budget:
    """Bytes that are copied or looked at: a few bytes of a pickle can name large tensors often.

    Attributes:
        left: bytes.
    """

    left: int

    def spend(self, count: int) -> None:
        """Take bytes, before anything is done with them."""
        self.left -= count
        if self.left < 0:
            raise CheckpointError(
                "holds conjugated, complex32, sparse or nested tensors that are larger than the "
                "file; save them from torch as plain tensors"
            )


def budget_of(size: int) -> Budget:
    """Return the budget of a file of so many bytes."""
    return Budget(4 * size + 2**16)
