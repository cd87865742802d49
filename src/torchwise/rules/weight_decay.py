"""What torch's optimizers do to a gradient first, and to a parameter whose decay is decoupled."""

from typing import Any

from torchwise.blocks.add_decayed_weights import AddDecayedWeights
from torchwise.blocks.maximize import Maximize
from torchwise.rule import Block


def gradient_blocks(rule: Any, decays: bool = True) -> list[Block]:
    """Return the blocks for `maximize` and for `weight_decay` (L2), in torch's order.

    Args:
        rule: has the field `maximize`; where it decays, a `term` named `weight_decay`, and where
            that may be decoupled, `decoupled_weight_decay`.
        decays: whether the decay is the gradient's at all.
    """
    blocks: list[Block] = [Maximize()] if rule.maximize else []
    if decays and _decays(rule) and not decouples(rule):
        blocks.append(AddDecayedWeights(rule.weight_decay))
    return blocks


def decouples(rule: Any) -> bool:
    """Whether the rule multiplies the parameter by `1 - lr * weight_decay`."""
    return getattr(rule, "decoupled_weight_decay", False) and _decays(rule)


def _decays(rule: Any) -> bool:
    return hasattr(rule, "weight_decay") and rule.has("weight_decay")
