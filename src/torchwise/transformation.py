"""The combinator: blocks and a rule for one array become a transformation of a tree."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from torchwise import trees
from torchwise.apply import at_first, counts, step_leaves, update_leaves
from torchwise.hyperparameter_types import check, refuse_others
from torchwise.leaf import Parts
from torchwise.placement import placed_like
from torchwise.preparation import prepare, run
from torchwise.rule import Block, Rule, Transform
from torchwise.states import ChainState, all_fields, trees_of
from torchwise.structure import named

P = ParamSpec("P")


class Definition(NamedTuple):
    """What `init` and `update` of a chain are bound to; see the attributes of `Chain`."""

    transforms: tuple[Transform, ...]
    parts: Parts
    per_parameter_steps: bool

    @property
    def counts(self) -> bool:
        """Whether the state has a step count."""
        last = self.transforms[-1] if self.transforms else None
        return counts(self.parts) or (isinstance(last, Rule) and last.counts_in_torch)


class Chain(optax.GradientTransformationExtraArgs):
    """An optax transformation that knows what it was made of.

    `step(grads, state, params)` returns new parameters and state; `init` and `update` are optax's.
    All three are pure. A chain is a pytree whose leaves are the hyperparameters, so it can be an
    argument of a jitted function: another learning rate is then other data, not another program.

    Attributes:
        transforms: the blocks and the rule that it was made of.
        parts: the same, with the rule taken apart into the blocks that it begins with and the
            rule that moves the parameter.
        per_parameter_steps: whether every parameter has a step count of its own.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.chain(torchwise.trace(0.9), torchwise.scale_by_learning_rate(0.5))
        >>> isinstance(transform, torchwise.Chain), len(transform.parts)
        (True, 2)
        >>> transform.step(jnp.ones(1), transform.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([0.5], dtype=float32)
    """

    transforms: tuple[Transform, ...]
    parts: Parts
    per_parameter_steps: bool
    _definition: Definition

    def __new__(cls, transforms: Sequence[Transform], per_parameter_steps: bool = False) -> "Chain":
        """Bind `init` and `update` to the chain."""
        parts = tuple(
            part
            for transform in transforms
            for part in (transform.parts() if isinstance(transform, Rule) else (transform,))
        )
        definition = Definition(tuple(transforms), parts, per_parameter_steps)
        init, update = (functools.partial(call, definition) for call in (_init, _update))
        self = super().__new__(cls, init, update)
        self.transforms, self.parts, self.per_parameter_steps = self._definition = definition
        return self

    @property
    def rule(self) -> Rule | None:
        """The rule at the end, or None for a chain that only changes gradients."""
        last = self.transforms[-1] if self.transforms else None
        return last if isinstance(last, Rule) else None

    @property
    def counts(self) -> bool:
        """Whether the state has a step count."""
        return self._definition.counts

    def step(
        self, grads: Any, state: ChainState, params: Any, *, whole_program: bool = False
    ) -> tuple[Any, ChainState]:
        """Return the new parameters and the new state; exact for every rule.

        Pure: jit a function of `(params, state, ...)` around it and donate both, in this order; JAX
        pairs donated arguments with results by their order. A gradient that is None, or an
        `optax.MaskedNode`, leaves its parameter and its state as they are.

        Args:
            grads: a tree like `params`; a `jax.experimental.sparse.BCOO` in the place of an array
                is a sparse gradient.
            state: what `init` returned, or the last `step` or `update`.
            params: a tree of float or complex arrays. Other leaves, as the functions and numbers
                in an Equinox module, come back as they are if their gradient is None.
            whole_program: True if the step is jitted alone, so that the gradients are arguments of
                the program: on CPU, large parameters are then read from memory once. The results
                are the same. In a program that computes the gradients, False is faster, and needed
                for the last bit of gradients that are a broadcast.

        Raises:
            TypeError: if the chain has no rule that moves parameters.
            RuntimeError: for sparse gradients, if the optimizer does not take them.
            ValueError: naming every leaf whose gradient or state does not fit.
        """
        if self.rule is None:
            raise TypeError(
                "step(): the last of a chain must be a rule that moves the parameter, as "
                f"scale_by_learning_rate(...) or sgd(...), but this is {self!r}"
            )
        work = prepare("step", self, grads, state, params)
        (results,) = run(functools.partial(step_leaves, whole_program=whole_program), [work])
        return work.finish(results, work.params)

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.transforms))})"

    def __getnewargs__(self) -> tuple[Any, ...]:  # pickle and copy rebuild from these
        return self.transforms, self.per_parameter_steps


jax.tree_util.register_pytree_with_keys(
    Chain,
    lambda chain: (
        ((jax.tree_util.GetAttrKey("transforms"), chain.transforms),),
        chain.per_parameter_steps,
    ),
    lambda per_parameter_steps, children: Chain(next(iter(children)), per_parameter_steps),
)


@runtime_checkable
class Groups(Protocol):
    """What has a chain for each group of parameters, and takes blocks in front of them all."""

    def behind(self, blocks: Sequence[Block]) -> Any:
        """Return the same behind blocks that see the gradients of all groups first."""


@overload
def chain(*transforms: Transform | Chain, per_parameter_steps: bool = False) -> Chain: ...


@overload
def chain(*transforms: Transform | Chain | Groups, per_parameter_steps: bool = False) -> Any: ...


def chain(*transforms: Any, per_parameter_steps: bool = False) -> Any:
    """Compose gradient blocks and, at the end, one rule: a gradient passes from left to right.

    The result has `init(params)`, `step(grads, state, params)` and optax's
    `update(grads, state, params)`, all pure. Through `update` and `optax.apply_updates` equality
    with torch to the bit needs both in one jitted program, since torch rounds
    `param - lr * direction` once; `step` writes the parameter itself.

    Args:
        *transforms: what the functions of this package return, or instances of `Block` and `Rule`.
            What `from_state_dict` or `to_functional` returned may be the last; blocks in front of
            it that remember nothing leave its state as it is.
        per_parameter_steps: count the gradients of every parameter by itself, as torch does. By
            default a chain that needs a count has one for all parameters, which is faster, and
            then every parameter must have a gradient at every step.

    Raises:
        TypeError: for anything else, and for a rule that is not the last; `optax.chain` composes
            these chains with other transformations.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.chain(torchwise.clip_each_by_norm(1.0), torchwise.sgd(lr=0.5))
        >>> params = {"w": jnp.ones(2), "frozen": jnp.ones(1)}
        >>> grads = {"w": jnp.array([0.0, 8.0]), "frozen": None}
        >>> params, state = transform.step(grads, transform.init(params), params)
        >>> params["w"]
        Array([1. , 0.5], dtype=float32)
    """
    flat: list[Transform] = []
    for position, transform in enumerate(transforms):
        if isinstance(transform, Chain):
            flat.extend(transform.transforms)
            per_parameter_steps |= transform.per_parameter_steps
        elif isinstance(transform, Block | Rule):
            flat.append(transform)
        elif isinstance(transform, Groups) and transform is transforms[-1]:
            return _behind(flat, transform, per_parameter_steps)
        else:
            raise TypeError(
                f"chain() argument {position} must be a torchwise transform, but got "
                f"{type(transform).__name__}; compose with optax.chain instead"
            )
    for transform in flat[:-1]:
        if isinstance(transform, Rule):
            raise TypeError(
                f"chain(): {type(transform).__name__} moves the parameter and must be the last"
            )
    return Chain(flat, per_parameter_steps)


def _behind(blocks: Sequence[Transform], groups: Groups, per_parameter_steps: bool) -> Any:
    if per_parameter_steps:
        raise TypeError(
            "chain(): how groups count their steps is settled where they are made: give "
            "per_parameter_steps=True to grouped(), from_state_dict() or to_functional()"
        )
    for block in blocks:
        if not isinstance(block, Block):
            raise TypeError(
                f"chain(): {type(block).__name__} moves the parameter and must be the last"
            )
        if block.State._fields:
            raise TypeError(
                f"chain(): {type(block).__name__} has a state, for which the state of the groups "
                "behind it has no place"
            )
    return groups.behind(tuple(block for block in blocks if isinstance(block, Block)))


def block_chain(block: Block, name: str) -> Chain:
    """Return the chain of one of torchwise's blocks.

    Args:
        block: it.
        name: of the function that makes it.

    Raises:
        TypeError: for a hyperparameter that is no number, or no number of one value.
    """
    refuse_others(block, f"{name}()")
    return chain(block)


def as_function(rule: Callable[P, Rule], name: str) -> Callable[P, Chain]:
    """Return the function of the public API that checks a rule and makes a chain of it.

    Args:
        rule: a class; the function has its signature and its documentation.
        name: of the function.
    """

    def function(*args: P.args, **kwargs: P.kwargs) -> Chain:
        made = rule(*args, **kwargs)
        check(at_first(made), f"{name}()")
        return Chain((made,))

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = rule.__module__, rule.__doc__
    signature = inspect.signature(rule).replace(return_annotation=Chain)
    vars(function)["__signature__"] = signature
    return function


def _init(definition: Definition, params: Any) -> ChainState:
    given, treedef = jax.tree.flatten(_without_statics(params))
    leaves = list(map(jnp.asarray, given))
    step = None
    if definition.counts:
        zeros = [placed_like(leaf, jnp.zeros((), jnp.int32)) for leaf in leaves]
        first = zeros[0] if zeros else jnp.zeros((), jnp.int32)
        step = treedef.unflatten(zeros) if definition.per_parameter_steps else first
    states = []
    for part in definition.parts:
        if isinstance(part, Rule):
            for leaf, array in zip(given, leaves):
                if not trees.never_moves(leaf):
                    part.check_param(array)
        initial = [placed_like(leaf, part.init(leaf)) for leaf in leaves]
        fields = all_fields(part, initial)
        states.append(trees_of(initial, fields, lambda _, values: treedef.unflatten(values)))
    return ChainState(step, tuple(states))


def _without_statics(params: Any) -> Any:
    """Return what has a state; without arrays, there is nothing to optimize."""
    if params is None:
        raise ValueError("init(): params is None: pass a tree of arrays, the parameters")
    if isinstance(params, ChainState):
        raise TypeError("init(): params is a state: pass a tree of arrays, the parameters")
    arrays = trees.without_statics(params)
    if jax.tree.leaves(params) and not jax.tree.leaves(arrays):
        raise TypeError(
            f"init(): there is no array in params, which is {named(params)}: pass a tree of arrays"
        )
    return arrays


def _update(
    definition: Definition,
    updates: Any,
    state: Any,
    params: Any = None,
    **_: Any,  # what optax hands to other transformations
) -> tuple[Any, ChainState]:
    work = prepare("update", definition, updates, state, params)
    (results,) = run(update_leaves, [work])
    return work.finish(results, work.increments)
