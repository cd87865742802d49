"""What optax has for a chain, or why it has nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from torchwise import trees
from torchwise.optax_states.counterparts import COUNTERPARTS, WITHOUT_COUNTERPART
from torchwise.param_groups import ParamGroups
from torchwise.placement import placed_like
from torchwise.rules.weight_decay import decouples
from torchwise.state_dict.groups import plain, torch_rule
from torchwise.states import ChainState
from torchwise.transformation import Chain


class Match(NamedTuple):
    """A chain and what optax has for it.

    Attributes:
        chain: ours.
        rule: at its end, as torch's optimizer, with Python numbers for arrays.
        optimizer: optax's, with the same formula.
    """

    chain: Chain
    rule: Any
    optimizer: optax.GradientTransformationExtraArgs

    @property
    def fields(self) -> Mapping[str, str]:
        """From torch's keys to the names of optax's fields."""
        return COUNTERPARTS[self.rule.name].fields

    def scaled(self, key: str, tree: Any) -> Any:
        """Return optax's values for torch's."""
        factor = self._factor(key)
        return tree if factor is None else jax.tree.map(lambda leaf: leaf * factor, tree)

    def unscaled(self, key: str, tree: Any) -> Any:
        """Return torch's values for optax's."""
        factor = self._factor(key)
        return tree if factor is None else jax.tree.map(lambda leaf: leaf / factor, tree)

    def derived(self, key: str, params: Any, count: int) -> Any:
        """Return torch's numbers that optax does not keep, one for each parameter."""
        value = COUNTERPARTS[self.rule.name].derived[key](self.rule, count)
        return jax.tree.map(
            lambda param: placed_like(jnp.asarray(param), jnp.asarray(value)), params
        )

    def _factor(self, key: str) -> float | None:
        factor = COUNTERPARTS[self.rule.name].factors.get(key)
        return factor and factor(self.rule)


def match_of(call: str, transform: Any, params: Any) -> Match:
    """Return what optax has for a transform.

    Args:
        call: the name of the public function, for errors.
        transform: a chain, or what `from_state_dict` returned for one group.
        params: a tree of arrays.

    Raises:
        TypeError: if `transform` is neither of them, or if there is what is no array in `params`.
        ValueError: naming all differences between the formulas.
    """
    chain = _chain_of(call, transform)
    _refuse_no_parameters(call, params)
    try:
        rule, start = torch_rule(chain)
    except ValueError:
        raise ValueError(f"{call}: {chain!r} is none of torch's optimizers") from None
    problems = []
    if start:
        problems.append(
            f"{chain.transforms[:start]!r}: blocks that torch does not have; convert the chain "
            "without them, and put what optax has for them in front of its optimizer"
        )
    rule = _with_python_numbers(rule)
    counterpart = COUNTERPARTS.get(rule.name)
    if counterpart is None:
        problems.append(WITHOUT_COUNTERPART[rule.name])
        raise _refusal(call, chain, problems)
    problems += [
        difference.text.format(rule=rule)
        for difference in counterpart.differences
        if difference.applies(rule)
    ]
    complex_ones = [
        trees.label(path)
        for path, leaf in jax.tree.leaves_with_path(params)
        if jnp.iscomplexobj(leaf)
    ]
    if complex_ones and not counterpart.native:
        problems.append(
            f"complex parameters {', '.join(complex_ones)}: torch takes the real and the imaginary "
            "part for two parameters, optax does not; steps would be of another size and direction"
        )
    if problems:
        raise _refusal(call, chain, problems)
    return Match(chain, rule, _in_front(rule, counterpart.build(rule)))


def _chain_of(call: str, transform: Any) -> Chain:
    if isinstance(transform, Chain):
        return transform
    if not isinstance(transform, ParamGroups):
        raise TypeError(
            f"{call} needs a torchwise chain, or what from_state_dict() returned, but got "
            f"{type(transform).__name__}"
        )
    if len(transform.chains) != 1:
        raise ValueError(
            f"{call}: the transform has {len(transform.chains)} groups; convert each of its "
            "`chains` with the parameters of its group, and join them with optax.partition"
        )
    return transform.chains[0]


def _refuse_no_parameters(call: str, params: Any) -> None:
    order = f"call {call[:-2]}(transform, state, params)"
    if params is None:
        raise ValueError(f"{call}: params is None: {order}, with a tree of arrays for params")
    if isinstance(params, ChainState):
        raise TypeError(f"{call}: params is a state: {order}")
    trees.refuse_statics(call[:-2], params)


def _refusal(call: str, chain: Chain, problems: list[str]) -> ValueError:
    listed = "\n  ".join(problems)
    return ValueError(f"{call}: optax has no equal formula for {chain!r}:\n  {listed}")


def _with_python_numbers(rule: Any) -> Any:
    """Return a rule without arrays: optax would let their type decide that of parameters."""
    names = [field.name for field in dataclasses.fields(cast(Any, rule)) if rule.has(field.name)]
    return rule.replaced(**{name: plain(getattr(rule, name)) for name in names})


def _in_front(
    rule: Any, optimizer: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer behind what torch does to a gradient first, in torch's order."""
    blocks = [optax.scale(-1.0)] if rule.maximize else []
    if rule.has("weight_decay") and not decouples(rule):
        blocks.append(optax.add_decayed_weights(rule.weight_decay))
    if blocks:
        return optax.chain(*blocks, optimizer)
    return optax.with_extra_args_support(optimizer)
