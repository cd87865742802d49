"""Reading one pickle into a checked value."""

from collections.abc import Callable
from typing import Any

from torchwise.checkpoint.budget import Budget
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.explanations import unknown
from torchwise.checkpoint.pickle_machine import PickleMachine
from torchwise.checkpoint.pickle_operations import OPERATIONS
from torchwise.checkpoint.pickle_program import Program
from torchwise.checkpoint.torch_globals import Globals
from torchwise.checkpoint.tree import check_tree


def no_storage(identity: Any) -> Any:
    """Refuse persistent ids, for pickles that have nothing outside of themselves."""
    raise CheckpointError("names a storage, of which there are none")


def read_pickle(
    program: Program,
    budget: Budget,
    find_persistent: Callable[[Any], Any] = no_storage,
    records: bool = False,
) -> Any:
    """Run a pickle and check what it leaves.

    Args:
        program: the pickle; it may end before the program's data does.
        budget: of the file.
        find_persistent: maps a persistent id to an object, or raises CheckpointError.
        records: whether objects of classes that are not known become records.

    Raises:
        CheckpointError: the pickle is damaged, too large, or holds what cannot be read.
    """
    names = Globals(budget)
    machine = PickleMachine(program, names.find, find_persistent)
    value = check_tree(machine.run(OPERATIONS), machine.stack.recalled, records)
    # What is not part of the value was an argument, or was set aside.
    if machine.refused:
        raise CheckpointError(machine.refused.reason)
    if names.unknown and not records:
        raise CheckpointError(unknown(next(iter(names.unknown.values()))))
    return value
