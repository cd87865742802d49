"""Torch's names: those that a dict has, and those that a caller gives."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.alphabetical import is_alphabetical
from torchwise.state_dict.layout import Layout, is_ignored
from torchwise.structure import named

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def parameter_names(
    state_dict: Mapping[str, Any], *, prefix: str = "", ignore: Sequence[str] = ()
) -> list[str]:
    """Return the names of a model's parameters in the order in which torch's optimizers count them.

    A model's state dict has that order, and more than its parameters: the statistics of batch
    norms, and tied arrays once for every name; both are left out, as `named_parameters()` does. An
    optimizer that was made of some of the parameters, or of groups, has another order.

    Args:
        state_dict: `state_dict()` of a torch module, as `checkpoint.load` reads it from a `.pt`
            file. A safetensors file has its names in alphabetical order, and tied arrays once.
        prefix: what names begin with, as `"module."` or `"_orig_mod."`; it is taken off, and names
            without it are left out.
        ignore: patterns of `fnmatch`, of names that are no parameters, or are frozen.

    Raises:
        ValueError: if the names are in alphabetical order, and so in none that a model has.

    Examples:
        >>> import numpy as np, torchwise
        >>> tied = np.ones((2, 2))
        >>> model = {"net.1.weight": tied, "net.1.running_mean": tied[0], "net.2.weight": tied}
        >>> torchwise.parameter_names(model, prefix="net.")
        ['1.weight']
    """
    names, seen = [], set()
    for name, value in state_dict.items():
        if not name.startswith(prefix) or name.rpartition(".")[2] in _BUFFERS:
            continue
        name = name.removeprefix(prefix)
        memory = _memory(value)
        if memory not in seen and not is_ignored(name, Layout(ignore=ignore)):
            names.append(name)
        seen.add(memory)
    if is_alphabetical([names]):
        raise ValueError(
            "parameter_names(): the names are in alphabetical order, as those of a safetensors "
            "file, and not in that of the model, which only the model has: "
            "[name for name, _ in model.named_parameters()]"
        )
    return names


def own_names(groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the names that the groups of a dict have for their parameters, in the order of ids.

    Ids that are strings are names: FSDP and `torch.distributed.checkpoint` write them.
    """
    ids = [identity for group in groups for identity in group["params"]]
    if has_named_ids(groups):
        return ids
    if not all("param_names" in group for group in groups):
        return None
    return [name for group in groups for name in group["param_names"]]


def has_named_ids(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the ids of a dict are names."""
    ids = [identity for group in groups for identity in group["params"]]
    return bool(ids) and all(isinstance(identity, str) for identity in ids)


def listed_names(
    names: Iterable[Any], left_out: Callable[[str], bool] = lambda _: False
) -> tuple[list[str], list[list[str]] | None]:
    """Return names in one list, and by group if they were given so; without some.

    Raises:
        TypeError: for what is neither.
    """
    given = [list(one) if isinstance(one, list | tuple) else one for one in names]
    wrong = [one for one in given if not isinstance(one, str | list)]
    if wrong:
        raise TypeError(
            f"names: {wrong[0]!r} is {named(wrong[0])}: pass names, or a list for each group"
        )
    by_group = any(isinstance(one, list) for one in given)
    groups = [[one] if isinstance(one, str) else one for one in given]
    kept = [[name for name in group if not left_out(name)] for group in groups]
    return list(itertools.chain(*kept)), kept if by_group else None


def _memory(value: Any) -> Any:
    """Return what is equal for names of one array: where its elements lie."""
    if 0 in np.shape(value):
        return id(value)
    if hasattr(value, "data_ptr"):
        return value.data_ptr(), tuple(value.shape), value.stride()
    if isinstance(value, np.ndarray):
        return value.ctypes.data, value.shape, value.strides
    return id(value)
