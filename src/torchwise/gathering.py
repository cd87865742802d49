"""What a block has to know of all gradients is found out before the first parameter moves."""

from collections.abc import Sequence
from typing import Any

from torchwise.leaf import Leaf, passed_on
from torchwise.numbers import is_array
from torchwise.rounding import materialized
from torchwise.rule import Block
from torchwise.sparse import Rows


def gathered(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Return the leaves with the numbers that depend on the gradients of all of them.

    A block object that stands in the parts of several leaves sees all of these at once, whatever
    their groups. The step computes again what it sees.
    """
    leaves = list(leaves)
    for position in range(max((len(leaf.parts) for leaf in leaves), default=0)):
        members: dict[int, list[int]] = {}
        for index, leaf in enumerate(leaves):
            part = leaf.parts[position] if position < len(leaf.parts) else None
            if isinstance(part, Block) and part.gathers:
                members.setdefault(id(part), []).append(index)
        for indices in members.values():
            _gather(leaves, position, indices)
    return leaves


def _gather(leaves: list[Leaf], position: int, indices: Sequence[int]) -> None:
    """Replace the numbers of one block in these leaves."""
    block = leaves[indices[0]].parts[position]
    assert isinstance(block, Block)
    if any(isinstance(leaves[index].grad, Rows) for index in indices):
        raise TypeError(
            f"{type(block).__name__} looks at whole gradients, but one is sparse: pass "
            "grad.todense(), or leave the block out"
        )
    found = block.gather([_seen(leaves[index], position) for index in indices])
    done: dict[Any, Any] = {}
    for index in indices:
        numbers = leaves[index].numbers
        n = numbers[position]
        key = id(n) if is_array(n) or not isinstance(n, float) else n
        if key not in done:  # once for all leaves, unless their numbers differ
            done[key] = block.numbers_with(n, found)
        numbers = (*numbers[:position], done[key], *numbers[position + 1 :])
        leaves[index] = leaves[index]._replace(numbers=numbers)


def _seen(leaf: Leaf, position: int) -> Any:
    """Return the gradient that a block sees."""
    grad = passed_on(leaf, position)
    return grad if grad is leaf.grad else materialized(grad)
