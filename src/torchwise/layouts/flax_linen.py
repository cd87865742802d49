"""The layout of a model of Flax Linen."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

from torchwise.layouts.flattening import Shapes, in_sequence
from torchwise.layouts.flax import layout_of
from torchwise.layouts.flax_layers import WHOLE, kind
from torchwise.layouts.layer import Array, layers_of
from torchwise.layouts.naming import Names
from torchwise.layouts.refusals import require_modules
from torchwise.state_dict.layout import Layout
from torchwise.trees import path_name

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def flax_linen(
    model: Any,
    *inputs: Any,
    modules: Mapping[str, str] = _NOTHING,
    conv1d: Sequence[str] = (),
    linear: Sequence[str] = (),
    flattened: Shapes | None = _NOTHING,
    unflattened: Shapes = _NOTHING,
    tied: Mapping[str, str] = _NOTHING,
    **options: Any,
) -> Layout:
    """Return the layout of a Flax Linen model for torch's counterparts of its layers.

    The model is initialized in the abstract, without computing anything, to see which modules it
    calls. The layout is that of its variables, `{"params": ..., "batch_stats": ...}`, and of the
    tree under "params".

    Args:
        model: the module.
        inputs: of its call, arrays or `jax.ShapeDtypeStruct`.
        modules: as for `flax_nnx`; `{"Dense_0": "fc1"}`.
        conv1d: as for `flax_nnx`.
        linear: as for `flax_nnx`.
        flattened: as for `flax_nnx`.
        unflattened: as for `flax_nnx`.
        tied: as for `flax_nnx`.
        options: keyword arguments of the model's call, as `train=False`.

    Raises:
        TypeError: for what is no module of Linen.
        ValueError: as `flax_nnx`.

    Examples:
        >>> import flax.linen as nn, jax.numpy as jnp, torchwise
        >>> layout = torchwise.layouts.flax_linen(nn.Dense(2), jnp.ones((1, 3)))
        >>> layout.rename["params.kernel"], layout.rename["kernel"]
        ('weight', 'weight')
    """
    require_modules("flax_linen", model)
    import flax.linen as nn  # of the caller: torchwise itself does not need it

    called: dict[tuple[str, ...], Any] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        called.setdefault(context.module.path, context.module)
        return call(*args, **kwargs)

    def init(*arrays: Any) -> Any:
        keys = jax.random.split(jax.random.key(0))
        return model.init({"params": keys[0], "dropout": keys[1]}, *arrays, **options)

    with nn.intercept_methods(record):
        variables = jax.eval_shape(init, *inputs)
    names = Names(modules)

    def whole(kind: str, path: str) -> bool:
        return kind in WHOLE and not names.mentions_inside(path)

    arrays = []
    for path, leaf in jax.tree.leaves_with_path(variables):
        keys = tuple(path_name((key,)) for key in path)[1:]
        owners = [called.get(keys[:level]) for level in range(len(keys))]
        arrays.append(Array(path_name(path), keys, owners, leaf.shape))
    order = {".".join(path): index for index, path in enumerate(called)}
    layers = layers_of(arrays, kind, whole)
    layers.sort(key=lambda layer: order.get(layer.path, len(order)))
    layout = layout_of(
        "flax_linen",
        layers,
        in_sequence(layers, True),
        names,
        conv1d=conv1d,
        linear=linear,
        flattened=flattened,
        unflattened=unflattened,
        tied=tied,
    )
    assert isinstance(layout.rename, dict)
    return layout._replace(
        rename={**layout.rename, **_below_params(layout.rename)},
        permute={**layout.permute, **_below_params(layout.permute)},
    )


def _below_params(by_path: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same for the tree under "params", which optimizers get."""
    start = "params."
    return {path[len(start) :]: v for path, v in by_path.items() if path.startswith(start)}
