"""Cells: gates that torch keeps in one array, and two biases that others have added up."""

from collections.abc import Sequence
from typing import Any

from torchwise.layouts.layer import Counterpart, Here, Layer, UndescribedError
from torchwise.state_dict.splits import Split, concatenated, joined

_WHY_NOT = (
    "torch has two biases, 'bias_ih' and 'bias_hh', of which the model has the sum alone: each of "
    "torch's moves by itself, so that neither state is the other's; train this model with a new "
    "optimizer"
)


def summed_biases(parts: Sequence[str], sizes: Sequence[int]) -> Split:
    """Return the split of torch's two biases, whose sum is in the parts; the way back has zeros."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]

    def split(inputs: Any, hidden: Any) -> list[Any]:
        _check_sizes(inputs, hidden, ends[-1])
        total = inputs + hidden
        return [total[end - size : end] for end, size in zip(ends, sizes)]

    def join(*arrays: Any) -> tuple[Any, Any]:
        total = concatenated(arrays)
        return total, total * 0

    return Split(("bias_ih", "bias_hh"), tuple(parts), split, join, False, _WHY_NOT)


def gru_biases(parts: Sequence[str], sizes: Sequence[int], last: str | None) -> Split:
    """Return the split of a GRU's biases, of which the hidden one of the new state is not added.

    Args:
        parts: names of the sums.
        sizes: of the sums.
        last: the name of what is not added; None in a model without it.
    """
    size, sums = sum(sizes) // 3, summed_biases(parts, sizes)

    def split(inputs: Any, hidden: Any) -> list[Any]:
        _check_sizes(inputs, hidden, 3 * size)
        own = hidden[2 * size :]
        if last is None and (own != 0).any():
            raise ValueError(
                f"cannot be loaded: the last {size} numbers of 'bias_hh' are not 0, and this cell "
                "has no such bias; eqx.nn.GRUCell and flax.linen.GRUCell have"
            )
        found = sums.split(inputs, concatenated([hidden[: 2 * size], own * 0]))
        return [*found, *([] if last is None else [own])]

    def join(*arrays: Any) -> tuple[Any, Any]:
        total = concatenated(arrays if last is None else arrays[:-1])
        own = total[2 * size :] * 0 if last is None else arrays[-1]
        return total, concatenated([total[: 2 * size] * 0, own])

    names = (*parts,) if last is None else (*parts, last)
    return Split(("bias_ih", "bias_hh"), names, split, join, False, _WHY_NOT)


def flax_cell(layer: Layer) -> Counterpart:
    """Return torch's counterpart of an LSTM, a GRU or a simple cell of Flax NNX or Linen."""
    if layer.kind == "SimpleCell" and getattr(layer.owner, "residual", False):
        raise UndescribedError("with residual=True, which torch does not have")
    inputs, hidden = _gates(layer)
    arrays: dict[str, Here] = {}
    splits: list[Split] = []
    for name, gates in (("weight_ih", inputs), ("weight_hh", hidden)):
        kernels = [f"{gate}.kernel" for gate in gates]
        whole = len(gates) == 1
        parts = [name if whole else f"{name}[{number}]" for number in range(len(gates))]
        arrays |= {kernel: Here(part, (1, 0)) for kernel, part in zip(kernels, parts)}
        if not whole:
            splits.append(joined(name, parts, [layer.shape(kernel)[1] for kernel in kernels]))
    biases = [name for name in layer.arrays if name.endswith(".bias")]
    if biases:
        added = [f"{gate}.bias" for gate in (*hidden, *inputs) if f"{gate}.bias" in biases]
        last = "hn.bias" if layer.kind == "GRUCell" and "hn.bias" in added else None
        added = [name for name in added if name != last]
        sizes = [layer.shape(name)[0] for name in added]
        parts = [f"bias[{name}]" for name in added]
        arrays |= {name: Here(part) for name, part in zip(added, parts)}
        if last:
            arrays[last] = Here("bias[hn]")
        if layer.kind == "GRUCell":
            splits.append(gru_biases(parts, sizes, "bias[hn]" if last else None))
        else:
            splits.append(summed_biases(parts, sizes))
    return Counterpart(arrays, splits)


def equinox_cell(layer: Layer) -> Counterpart:
    """Return torch's counterpart of an LSTM or a GRU cell of Equinox."""
    arrays = {name: Here(name) for name in ("weight_ih", "weight_hh")}
    splits = []
    if "bias" in layer.arrays:
        arrays["bias"] = Here("bias[sum]")
        size = layer.shape("bias")[0]
        if "bias_n" in layer.arrays:
            arrays["bias_n"] = Here("bias[n]")
            splits.append(gru_biases(["bias[sum]"], [size], "bias[n]"))
        else:
            splits.append(summed_biases(["bias[sum]"], [size]))
    return Counterpart(arrays, splits)


def _gates(layer: Layer) -> tuple[list[str], list[str]]:
    """Return the names of the maps of the input and of the hidden state, in torch's order."""
    below = {name.split(".")[0] for name in layer.arrays}
    order = "ifgo" if "LSTM" in layer.kind else "rzn"
    candidates = [
        (["dense_i"], ["dense_h"]),
        (["i"], ["h"]),
        ([f"i{gate}" for gate in order], [f"h{gate}" for gate in order]),
        (["ii", "if_", "ig", "io"], [f"h{gate}" for gate in order]),
    ]
    for inputs, hidden in candidates:
        if {*inputs, *hidden} == below:
            return inputs, hidden
    raise UndescribedError(f"with {', '.join(sorted(below))}")


def _check_sizes(inputs: Any, hidden: Any, size: int) -> None:
    if inputs.shape != (size,) or hidden.shape != (size,):
        raise ValueError(f"have shapes {inputs.shape} and {hidden.shape}, the cell ({size},)")
