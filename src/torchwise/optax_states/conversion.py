"""A chain's state as the state of optax's own function, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from torchwise import trees
from torchwise.optax_states.matching import match_of
from torchwise.placement import placed_like
from torchwise.state_dict.entry import arrays_of
from torchwise.states import ChainState
from torchwise.structure import difference, named
from torchwise.transformation import Chain

_COUNT = "count"  # what all of optax's states call it


def to_optax_state(
    transform: Any, state: ChainState, params: Any
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    """Return optax's own function with the formula of a chain, and its state after the same steps.

    A run that began in torch goes on in code that is written with optax. Formulas are equal,
    roundings are not: after 40 steps parameters are apart by some 1e-15 of the way that they have
    gone in float64, and by 1e-7 to 1e-5 in float32, RAdam's by 1e-4, since without 64-bit types
    optax computes bias corrections in float32. Where formulas differ, the call refuses.

    `maximize` is `optax.scale(-1.0)` in front, an L2 decay `optax.add_decayed_weights` before the
    optimizer, `lr_decay` a schedule.

    Arrays of the parameters' shapes are shared with `state`, not copied; with lr=0.1, RMSprop's
    momentum buffer becomes -0.1 times torch's. optax needs a gradient for every parameter at every
    step; torch leaves those without one as they are.

    Args:
        transform: a chain that is one of torch's optimizers, as `adam(...)`, or what
            `from_state_dict` returned for one group.
        state: its state.
        params: the parameters, a tree of arrays.

    Returns:
        The optimizer, as optax's `adam(...)`, or an `optax.chain` that ends in it; and its state,
        which is of the structure that the optimizer's `init(params)` returns.

    Raises:
        TypeError: if `transform` is neither of them.
        ValueError: naming all differences of the formulas; if parameters have seen different
            numbers of gradients, which optax counts once; or if the state is not that of the
            parameters.

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> from torchwise.optax_states.conversion import to_optax_state
        >>> transform, params = torchwise.sgd(lr=0.5, momentum=0.5), jnp.zeros(1)
        >>> params, state = transform.step(jnp.ones(1), transform.init(params), params)
        >>> optimizer, optax_state = to_optax_state(transform, state, params)
        >>> optax_state[0]
        TraceState(trace=Array([1.], dtype=float32))
        >>> optimizer.update(jnp.ones(1), optax_state, params)[0]
        Array([-0.75], dtype=float32)
    """
    call = "to_optax_state()"
    match = match_of(call, transform, params)
    _check_state(call, state, match.chain, params)
    held = arrays_of(state.states)
    known = {key: name for key, name in match.fields.items() if key in held}
    fields = {name: match.scaled(key, held[key]) for key, name in known.items()}
    template = jax.eval_shape(match.optimizer.init, params)
    if any(_COUNT in part._fields for part in _parts(template)):
        fields[_COUNT] = _common_count(call, state.step, params)
    return match.optimizer, _filled(template, fields)


def from_optax_state(
    transform: Any, optax_state: Any, params: Any, *, step: Any = None
) -> ChainState:
    """Return the state of a chain after the steps that optax's function has made.

    The way back from `to_optax_state`, with the same refusals. Arrays of the parameters' shapes are
    shared with `optax_state`, not copied.

    Args:
        transform: a chain that is one of torch's optimizers, as `adam(...)`, with the
            hyperparameters of the run; or what `from_state_dict` returned for one group.
        optax_state: the state of the optimizer that `to_optax_state` returns for this chain.
        params: the parameters, a tree of arrays.
        step: how many gradients there have been, a number or a tree like the parameters; needed
            where torch counts and optax does not: for RMSprop, Adadelta and Adagrad without a
            schedule or `lr_decay`.

    Raises:
        TypeError: if `transform` is neither of them.
        ValueError: naming all differences of the formulas; if `step` is missing or is not optax's
            count; or if `optax_state` is of another function or of other parameters.

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> from torchwise.optax_states.conversion import from_optax_state
        >>> optimizer = optax.rmsprop(0.5, decay=0.75, eps_in_sqrt=False)
        >>> params, transform = jnp.zeros(1), torchwise.rmsprop(lr=0.5, alpha=0.75)
        >>> _, optax_state = optimizer.update(jnp.ones(1), optimizer.init(params), params)
        >>> from_optax_state(transform, optax_state, params, step=1).states[0].square_avg
        Array([0.25], dtype=float32)
    """
    call = "from_optax_state()"
    match = match_of(call, transform, params)
    problem = difference(optax_state, jax.eval_shape(match.optimizer.init, params))
    if problem:
        raise ValueError(
            f"{call}: the state is not that of these parameters in the transformation of optax "
            f"that to_optax_state returns for {match.chain!r}: {problem}"
        )
    found: dict[str, list[Any]] = {}
    for part in _parts(optax_state):
        for name, value in part._asdict().items():
            found.setdefault(name, []).append(value)
    counts = {int(count) for count in found.get(_COUNT, ())}
    template = jax.eval_shape(match.chain.init, params)
    steps = _steps(call, counts, step, template.step, params)
    states = [
        part._replace(
            **{
                key: match.derived(key, params, *counts)
                if key not in match.fields
                else match.unscaled(key, found[match.fields[key]][0])
                for key, tree in part._asdict().items()
                if tree is not None
            }
        )
        for part in template.states
    ]
    return ChainState(steps, tuple(states))


def _check_state(call: str, state: Any, chain: Chain, params: Any) -> None:
    if not isinstance(state, ChainState):
        raise ValueError(
            f"{call}: the state is {named(state)}, not one that init() of this transform returned: "
            "from_state_dict(state_dict, params) makes one of a state dict of torch"
        )
    problem = difference(state, jax.eval_shape(chain.init, params))
    if problem:
        raise ValueError(f"{call}: the state is not that of these parameters: {problem}")


def _parts(optax_state: Any) -> Iterator[Any]:
    """Yield the NamedTuples of a state of chains in chains; parameters are within them."""
    if hasattr(optax_state, "_fields"):
        yield optax_state
    else:
        for state in optax_state:
            yield from _parts(state)


def _filled(template: Any, fields: Mapping[str, Any]) -> Any:
    """Return a state with these fields; counts are copied, so that all can be donated."""
    if not hasattr(template, "_fields"):
        return tuple(_filled(state, fields) for state in template)
    own = {name: fields[name] for name in template._fields}
    return template._replace(
        **{name: jnp.copy(value) if name == _COUNT else value for name, value in own.items()}
    )


def _common_count(call: str, step: Any, params: Any) -> jax.Array:
    """Return the one count of all parameters, int32 and 0-d."""
    counts = jax.tree.leaves(step)
    paths: dict[int, list[str]] = {}
    for count, (path, _) in zip(counts, jax.tree.leaves_with_path(params)):
        paths.setdefault(int(count), []).append(trees.label(path))
    if len(paths) > 1:
        listed = "; ".join(f"{count}: {', '.join(names)}" for count, names in paths.items())
        raise ValueError(
            f"{call}: optax counts gradients once for all parameters, but these have seen "
            f"different numbers of them, and would be corrected as one: {listed}"
        )
    return counts[0] if counts else jnp.zeros((), jnp.int32)


def _steps(call: str, counts: set[int], step: Any, template: Any, params: Any) -> Any:
    """Return the step of a chain's state: None, a count, or a tree of counts."""
    if template is None:
        return None
    if len(counts) > 1:
        raise ValueError(f"{call}: the counts in optax's state differ: {sorted(counts)}")
    if step is None and not counts:
        raise ValueError(
            f"{call}: torch counts gradients here and optax does not: pass step=, the number of "
            "gradients that there have been"
        )
    if step is None:
        (step,) = counts
    if not all(map(trees.is_number_or_array, jax.tree.leaves(step))):
        raise ValueError(f"{call}: step must be a number, or a tree of them, but is {step!r}")
    try:
        given = jax.tree.broadcast(step, template)
    except ValueError:
        structure = jax.tree.structure(template)
        raise ValueError(f"{call}: step must be a number, or a tree {structure}") from None
    if counts and {int(one) for one in jax.tree.leaves(given)} != counts:
        raise ValueError(f"{call}: step is {step}, but optax has counted {counts.pop()}")
    leaves = jax.tree.leaves(params)
    if jax.tree.structure(template) == jax.tree.structure(params):
        like = params
    else:
        like = leaves[0] if leaves else jnp.zeros(())
    return jax.tree.map(
        lambda param, one: placed_like(jnp.asarray(param), jnp.asarray(one, jnp.int32)), like, given
    )
