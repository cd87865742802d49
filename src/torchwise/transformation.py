"""The combinator: blocks and a rule for one array become a transformation of a tree."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from torchwise import trees
from torchwise.apply import at_first, counts, numbers_at, step_leaves, update_leaves
from torchwise.frames import Frame
from torchwise.gathering import gathered
from torchwise.leaf import Leaf, Parts
from torchwise.placement import placed_like
from torchwise.rounding import full_like
from torchwise.rule import Block, Rule, Transform
from torchwise.sparse import as_gradient
from torchwise.structure import first_difference, named

P = ParamSpec("P")


class ChainState(NamedTuple):
    """The state of a chain.

    Attributes:
        step: how many gradients there have been (int32, 0-d); a tree of such counts, like the
            parameters, with `per_parameter_steps`; None if nothing in the chain needs it.
        states: one NamedTuple per part, each field a tree like the parameters, or None.
    """

    step: Any
    states: tuple[Any, ...]


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

    def step(self, grads: Any, state: ChainState, params: Any) -> tuple[Any, ChainState]:
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
        (results,) = run(step_leaves, [work])
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
            "per_parameter_steps=True to from_state_dict() or to_functional()"
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


def as_function(rule: Callable[P, Rule], name: str) -> Callable[P, Chain]:
    """Return the function of the public API that checks a rule and makes a chain of it.

    Args:
        rule: a class; the function has its signature and its documentation.
        name: of the function.
    """

    def function(*args: P.args, **kwargs: P.kwargs) -> Chain:
        made = rule(*args, **kwargs)
        at_first(made).check()
        return Chain((made,))

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = rule.__module__, rule.__doc__
    signature = inspect.signature(rule).replace(return_annotation=Chain)
    vars(function)["__signature__"] = signature
    return function


class Work(NamedTuple):
    """A step of a chain that is prepared.

    Attributes:
        live: the leaves that have gradients, with their positions.
        step: the new count.
        states: of all leaves, one per part.
        old: the state before.
        params: all leaves.
        frame: of the parameters.
    """

    live: list[tuple[int, Leaf]]
    step: Any
    states: list[tuple[Any, ...]]
    old: ChainState
    params: list[Any]
    frame: Frame

    @property
    def increments(self) -> list[Any]:
        """What leaves without a gradient get in the place of an increment."""
        return list(map(no_increment, self.params))

    def finish(self, results: Sequence[Any], rest: list[Any]) -> tuple[Any, ChainState]:
        """Return the tree of results, with `rest` for leaves without a gradient; and the state."""
        values, states = list(rest), list(self.states)
        for (index, _), (value, held) in zip(self.live, results):
            values[index], states[index] = value, held
        new = tuple(
            _trees_of([leaf[position] for leaf in states], old, self.frame.filled)
            for position, old in enumerate(self.old.states)
        )
        return self.frame.treedef.unflatten(values), ChainState(self.step, new)


def no_increment(param: Any) -> Any:
    """Return what leaves a parameter as it is.

    For what is no array that is None, as in optax, and as `equinox.apply_updates` takes it.
    """
    return None if trees.is_constant(param) else full_like(param, -0.0)  # p + -0.0 is p, to the bit


def _init(definition: Definition, params: Any) -> ChainState:
    leaves, treedef = jax.tree.flatten(_without_statics(params))
    leaves = list(map(jnp.asarray, leaves))
    step = None
    if definition.counts:
        zeros = [placed_like(leaf, jnp.zeros((), jnp.int32)) for leaf in leaves]
        first = zeros[0] if zeros else jnp.zeros((), jnp.int32)
        step = treedef.unflatten(zeros) if definition.per_parameter_steps else first
    states = []
    for part in definition.parts:
        if isinstance(part, Rule):
            for leaf in leaves:
                part.check_param(leaf)
        initial = [placed_like(leaf, part.init(leaf)) for leaf in leaves]
        fields = _all_fields(part, initial)
        states.append(_trees_of(initial, fields, lambda _, values: treedef.unflatten(values)))
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


def run(move: Callable[..., list[Any]], works: Sequence[Work]) -> list[list[Any]]:
    """Return the results of several chains, whose leaves go together: a norm is one of them all."""
    leaves = [leaf for work in works for _, leaf in work.live]
    results = iter(move(gathered(leaves)))
    return [[next(results) for _ in work.live] for work in works]


def prepare(call: str, chain: Chain | Definition, grads: Any, state: Any, params: Any) -> Work:
    """Line up gradients, states and parameters, count the step, and derive its numbers."""
    parts = chain.parts
    refuse_order(call, grads, params)
    gradients = trees.align(call, grads, params)
    frame = Frame(params)
    leaves = jax.tree.leaves(params)
    arrays = [
        leaf if grad is None and trees.is_constant(leaf) else jnp.asarray(leaf)
        for leaf, grad in zip(leaves, gradients)
    ]
    states, held = _states_of(call, parts, state, frame, params)
    _refuse_shapes(call, parts, states, params)
    _refuse_stateless(call, gradients, held, params)
    apart = [
        grad is None and (trees.never_moves(leaf) or not has)
        for leaf, grad, has in zip(leaves, gradients, held)
    ]
    step, counted = _counted(call, chain, state.step, gradients, apart, params)
    shared = None if chain.per_parameter_steps else numbers_at(parts, step)
    live = []
    for index, grad in enumerate(gradients):
        if grad is not None:
            param = arrays[index]
            n = numbers_at(parts, counted[index]) if shared is None else shared
            leaf = Leaf(parts, as_gradient(grad, param.dtype), param, states[index], n)
            live.append((index, leaf))
    return Work(live, step, states, state, arrays, frame)


def refuse_order(call: str, grads: Any, params: Any) -> None:
    """Raise for arguments that are missing, or where others belong."""
    order = f"call {call}(grads, state, params)"
    if params is None:
        raise ValueError(f"{call}() needs the parameters: {order}")
    for name, value in (("grads", grads), ("params", params)):
        if isinstance(value, ChainState):
            raise TypeError(f"{call}(): {name} is a state: {order}")
        if jax.tree.leaves(value) and all(map(trees.is_static, jax.tree.leaves(value))):
            raise TypeError(f"{call}(): {name} is {named(value)} without arrays: {order}")
    if grads is None and not jax.tree_util.all_leaves([params]) and jax.tree.leaves(params):
        raise ValueError(f"{call}(): grads is None: {order}, with None for single parameters alone")


def _counted(
    call: str,
    chain: Chain | Definition,
    step: Any,
    gradients: Sequence[Any],
    apart: Sequence[bool],
    params: Any,
) -> tuple[Any, list[Any]]:
    """Return the new count, and that of each leaf.

    Args:
        call: see `prepare`.
        chain: likewise.
        step: of the old state.
        gradients: one for each leaf, or None.
        apart: for each leaf, whether it may lack a gradient where steps are counted once for all.
        params: the parameters.
    """
    if step is None:
        if counts(chain.parts):
            raise ValueError(
                f"{call}(): the state has no step, but the transform counts steps, as a schedule "
                "does: pass a state that its own init(params) made; groups behind a block do not "
                "count for it: give the block a number, or an array that changes between steps"
            )
        return None, [None] * len(gradients)
    if chain.per_parameter_steps:
        frame = Frame(params)
        olds = frame.read(step)
        if olds is None:
            raise ValueError(
                f"{call}(): the step of the state is {named(step)}, but the transform counts the "
                "steps of each parameter: pass what init(params) of this transform returned"
            )
        _refuse_stateless(call, gradients, [old is not None for old in olds], params)
        counted = [old if grad is None else old + 1 for old, grad in zip(olds, gradients)]
        return frame.filled(step, counted), counted
    if not jax.tree_util.all_leaves([step]):
        raise ValueError(
            f"{call}(): the state counts the steps of each parameter, the transform once for all: "
            "wrap it as torchwise.chain(transform, per_parameter_steps=True)"
        )
    _refuse_missing(call, gradients, apart, params)
    step = step + 1
    return step, [step] * len(gradients)


def _refuse_missing(
    call: str, gradients: Sequence[Any], apart: Sequence[bool], params: Any
) -> None:
    if all(grad is not None for grad in gradients):
        return
    entries = zip(jax.tree.leaves_with_path(params), gradients, apart)
    missing = [trees.label(path) for (path, _), grad, may in entries if grad is None and not may]
    if missing:
        raise ValueError(
            f"{call}(): no gradient for {', '.join(missing)}, but steps are counted once for all "
            "parameters; torchwise.chain(transform, per_parameter_steps=True) counts them for each "
            "parameter, as torch does"
        )


def _refuse_stateless(
    call: str, gradients: Sequence[Any], held: Sequence[bool], params: Any
) -> None:
    entries = zip(jax.tree.leaves_with_path(params), gradients, held)
    found = [trees.label(path) for (path, _), grad, has in entries if grad is not None and not has]
    if found:
        raise ValueError(
            f"{call}(): the state was made without {', '.join(found)}, for which there is a "
            "gradient: call init with all parameters that are to move"
        )


def _all_fields(part: Transform, states: list[Any]) -> Any:
    """Return a state that has whatever one of these has; without any, what arrays of 0 or 2 have.

    optax calls `init` with a tree that has no leaves to find out where the parameters are.
    """
    shapes = () if states else ((), (1, 1))
    examples = [jax.eval_shape(part.init, jax.ShapeDtypeStruct(one, "float32")) for one in shapes]
    columns = zip(*states, *examples) if part.State._fields else ()
    return part.State(*(next((one for one in each if one is not None), None) for each in columns))


def _trees_of(states: list[Any], like: Any, tree_of: Callable[[Any, list[Any]], Any]) -> Any:
    """Turn one NamedTuple per leaf inside out: into one of trees, or None where `like` has None."""
    fields = []
    for name, example in like._asdict().items():
        values = [getattr(state, name) for state in states]
        filled = [trees.absent() if value is None else value for value in values]
        fields.append(None if example is None else tree_of(example, filled))
    return type(like)(*fields)


def _states_of(
    call: str, parts: Parts, state: Any, frame: Frame, params: Any
) -> tuple[list[tuple[Any, ...]], list[bool]]:
    """Return the states of each leaf, one per part; and whether the state was made for the leaf."""
    size = frame.treedef.num_leaves
    if not isinstance(state, ChainState):
        raise ValueError(wrong_state(call, state))
    kinds, wanted = [type(one) for one in state.states], [part.State for part in parts]
    if kinds != wanted:
        raise ValueError(wrong_state(call, state, f", which has {_names(wanted)}"))
    columns, held = [], [True] * size
    for inner in state.states:
        fields = []
        for tree in inner:
            leaves = [trees.absent()] * size if tree is None else frame.read(tree)
            if leaves is None:
                problem = first_difference(tree, params, "the state", "params")
                raise ValueError(
                    f"{call}(): the state was made for other parameters: {problem}; pass params as "
                    "init(params) got them"
                )
            held = [has and leaf is not None for has, leaf in zip(held, leaves)]
            fields.append([None if _lacks(leaf) else leaf for leaf in leaves])
        rows = zip(*fields) if fields else [()] * size
        columns.append([type(inner)(*row) for row in rows])
    return (list(zip(*columns)) if columns else [()] * size), held


def wrong_state(call: str, state: Any, wanted: str = "") -> str:
    """Return the error for what is no state of a transform."""
    remedy = f"{wanted}: call {call}(grads, state, params) with what init(params) returned"
    if isinstance(state, ChainState):
        return (
            f"{call}(): the state is that of another transform: "
            f"{_names([type(one) for one in state.states])}, not one that init() of this transform "
            f"returned{remedy}"
        )
    if isinstance(state, Mapping) and "param_groups" in state:
        return (
            f"{call}(): the state is a state dict of torch, not one that init() of this transform "
            "returned: from_state_dict(state_dict, params) returns a transform and its state"
        )
    return (
        f"{call}(): the state is not one that init() of this transform returned, but {named(state)}"
        f"{remedy}"
    )


def _names(states: Sequence[Any]) -> str:
    return f"({', '.join(one.__name__ for one in states)})"


def _refuse_shapes(call: str, parts: Parts, states: Sequence[tuple[Any, ...]], params: Any) -> None:
    """Raise a ValueError for states of parameters of other shapes, which might broadcast."""
    known: dict[Any, Any] = {}
    problems = []
    for (path, param), held in zip(jax.tree.leaves_with_path(params), states):
        if trees.is_static(param):
            continue
        shape, dtype = jnp.shape(param), jnp.result_type(param)
        for index, (part, state) in enumerate(zip(parts, held)):
            for name, value in state._asdict().items():
                if value is None or jnp.shape(value) == shape:  # as most are
                    continue
                if (index, shape, dtype) not in known:
                    like = jax.ShapeDtypeStruct(shape, dtype)
                    known[index, shape, dtype] = jax.eval_shape(part.init, like)
                wanted = getattr(known[index, shape, dtype], name)
                if wanted is not None and jnp.shape(value) != wanted.shape:
                    problems.append(
                        f"{trees.label(path)}: {name!r} has shape {jnp.shape(value)}, but the "
                        f"parameter has {shape}"
                    )
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{call}(): the state does not fit; init(params) makes one that does:\n  {listed}"
        )


def _lacks(leaf: Any) -> bool:
    return leaf is None or trees.is_absent(leaf)
