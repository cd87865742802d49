"""What torch's optimizers do to a gradient first."""

from typing import Any

from torchwise.blocks.add_decayed_weights import AddDecayedWeights
from torchwise.blocks.maximize import Maximize
from torchwise.rule import Block


def gradient_blocks(rule: Any) -> list[Block]:
    """Return the blocks for `maximize` and `weight_decay` (L2), in torch's order.

    Args:
        rule: has a field `maximize` and a `term` named `weight_decay`.
    """
    blocks: list[Block] = [Maximize()] if rule.maximize else []
    if rule.has("weight_decay"):
        blocks.append(AddDecayedWeights(rule.weight_decay))
    return blocks
