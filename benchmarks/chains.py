"""An optimizer as pure functions: our chain in its two uses, and optax's that comes closest."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
import optax.contrib

import torchwise
from optimizers import Case

FUNCTIONAL = "torchwise"
UPDATE = "torchwise update"
OPTAX = "optax"


class Pure(NamedTuple):
    """An optimizer as two pure functions.

    Attributes:
        init: params -> state.
        step: (grads, state, params) -> (params, state).
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]


def torchwise_chains(case: Case, whole_program: bool) -> dict[str, Pure]:
    """Return our chain for a case, used in two ways."""
    ours = getattr(torchwise, case.algorithm)(**case.hyperparameters)
    step = functools.partial(ours.step, whole_program=whole_program)
    return {FUNCTIONAL: Pure(ours.init, step), UPDATE: _updating(ours)}


def _updating(transform: optax.GradientTransformation) -> Pure:
    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Pure(transform.init, step)


# What optax has under the same names as torch, but for the rate, with the defaults of torch.
_OPTAX: dict[str, Callable[..., Any]] = {
    "sgd": optax.sgd,
    "adagrad": functools.partial(optax.adagrad, initial_accumulator_value=0.0, eps=1e-10),
    "rmsprop": functools.partial(optax.rmsprop, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adamax": optax.adamax,
    "nadam": optax.nadam,
    "radam": optax.radam,
    "adadelta": functools.partial(optax.adadelta, rho=0.9, eps=1e-6),
    "rprop": optax.rprop,
    "muon": functools.partial(optax.contrib.muon, weight_decay=0.1, eps=1e-7),
}


def optax_chains(case: Case) -> dict[str, Pure]:
    """Return optax's chain for a case; none with dampening, AMSGrad, ASGD's averages or Adafactor.

    What optax calls Adafactor factors, clips and scales in other ways. Its Muon multiplies matrices
    in float32, where torch and torchwise do it in bfloat16.
    """
    values = dict(case.hyperparameters)
    if case.algorithm not in _OPTAX or {"dampening", "amsgrad"} & {*values}:
        return {}
    decoupled = case.algorithm == "adamw"
    decay = None if decoupled else values.pop("weight_decay", None)
    rule = _OPTAX[case.algorithm](values.pop("lr"), **values)
    whole = rule if decay is None else optax.chain(optax.add_decayed_weights(decay), rule)
    return {OPTAX: _updating(whole)}
