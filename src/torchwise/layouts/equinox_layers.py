"""Equinox's layers: what torch has for the arrays of each."""

from collections.abc import Callable
from typing import Any

from torchwise.layouts.attention import equinox_attention
from torchwise.layouts.layer import Array, Counterpart, Here, Layer, UndescribedError
from torchwise.layouts.recurrent import equinox_cell
from torchwise.state_dict.layout import Rearrangement

WHOLE = {"MultiheadAttention", "LSTMCell", "GRUCell", "WeightNorm", "SpectralNorm"}


def kind(owner: Any) -> str:
    """Return the name of the layer of Equinox that a module is; empty for other modules."""
    for one in type(owner).__mro__:
        if one.__module__.startswith("equinox.nn."):
            known = [base.__name__ for base in one.__mro__ if base.__name__ in _DESCRIBED]
            return known[0] if known else one.__name__
    return ""


def counterpart(layer: Layer) -> Counterpart:
    """Return what torch has for a layer.

    Raises:
        UndescribedError: if torch has no such layer.
    """
    describe = _DESCRIBED.get(layer.kind, lambda _: Counterpart({}))
    found = describe(layer)
    arrays = {name: found.arrays.get(name, Here(name)) for name in layer.arrays}
    return found._replace(arrays=arrays)


def _conv(layer: Layer) -> Counterpart:
    if "bias" not in layer.arrays:
        return Counterpart({})
    rank = len(layer.shape("bias"))
    return Counterpart({"bias": Here("bias", (0, *[None] * (rank - 1)))})


def _conv_transpose(layer: Layer) -> Counterpart:
    """The weight is (in, out / groups, *window) in torch, here (out, in / groups, *window).

    The windows run backwards.
    """
    owner = layer.owner
    outside, inside, *window = layer.shape("weight")
    groups = owner.groups
    torch_shape = (inside * groups, outside // groups, *window)
    factors = (groups, inside, outside // groups, *window)
    last = tuple(range(3, len(factors)))
    way = Rearrangement(torch_shape, factors, (0, 2, 1, *last), last)
    return Counterpart({**_conv(layer).arrays, "weight": Here("weight", way)})


def _prelu(layer: Layer) -> Counterpart:
    shape = layer.shape("negative_slope")
    return Counterpart(
        {"negative_slope": Here("weight", None if shape else Rearrangement((1,), (), ()))}
    )


def _weight_norm(layer: Layer) -> Counterpart:
    """Lengths are `original0` in torch, directions `original1`, beside the bias."""
    owner, weight = layer.owner, layer.owner.weight_name
    if owner.axis is None:
        raise UndescribedError("with axis=None")
    inner = Layer(kind(owner.layer), owner.layer, layer.keys, layer.owners, _inside(layer))
    described = counterpart(inner).arrays
    if described[weight].axes is not None:
        raise UndescribedError(f"around {inner.kind}, whose {weight} torch has in another form")
    above = f"parametrizations.{weight}"
    arrays = {
        f"layer.{name}": here._replace(name=f"{above}.original1") if name == weight else here
        for name, here in described.items()
    }
    return Counterpart({**arrays, "g": Here(f"{above}.original0")})


def _spectral_norm(layer: Layer) -> Counterpart:
    raise UndescribedError("whose vectors of the power iteration are another state than torch's")


def _inside(layer: Layer) -> dict[str, Array]:
    start = "layer."
    return {
        name[len(start) :]: array for name, array in layer.arrays.items() if name.startswith(start)
    }


_DESCRIBED: dict[str, Callable[[Layer], Counterpart]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "PReLU": _prelu,
    "MultiheadAttention": equinox_attention,
    "LSTMCell": equinox_cell,
    "GRUCell": equinox_cell,
    "WeightNorm": _weight_norm,
    "SpectralNorm": _spectral_norm,
}
