"""The one table: which function of optax has the formula of which optimizer of torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from torchwise.numbers import Schedule


class Difference(NamedTuple):
    """What optax computes otherwise.

    Attributes:
        applies: whether it concerns a rule.
        text: the difference and its consequence, formatted with the rule's hyperparameters.
    """

    applies: Callable[[Any], bool]
    text: str


class Counterpart(NamedTuple):
    """How optax says one of torch's optimizers.

    Attributes:
        build: returns optax's transformation for a rule whose hyperparameters are Python numbers
            and schedules; without `maximize` and without an L2 decay, which stand in front of it.
        fields: from torch's key to the name of the field in a state of optax.
        differences: those for which a rule is refused.
        factors: what optax's value is, divided by torch's, where that is not 1.
        derived: what torch keeps for each parameter and optax does not, as a float32 number made of
            the rule and the count of gradients.
        native: whether the formula takes a complex number for a number, as optax does.
    """

    build: Callable[[Any], optax.GradientTransformation]
    fields: Mapping[str, str]
    differences: tuple[Difference, ...] = ()
    factors: Mapping[str, Callable[[Any], float]] = {}
    derived: Mapping[str, Callable[[Any, int], Any]] = {}
    native: bool = False


def _sgd(rule: Any) -> optax.GradientTransformation:
    return optax.sgd(rule.lr, _momentum(rule), rule.nesterov)


def _adagrad(rule: Any) -> optax.GradientTransformation:
    lr = _decaying(rule.lr, rule.lr_decay) if rule.has("lr_decay") else rule.lr
    return optax.adagrad(lr, rule.initial_accumulator_value, rule.eps)


def _rmsprop(rule: Any) -> optax.GradientTransformation:
    return optax.rmsprop(
        rule.lr,
        decay=rule.alpha,
        eps=rule.eps,
        eps_in_sqrt=False,
        centered=rule.centered,
        momentum=_momentum(rule),
    )


def _adam(rule: Any) -> optax.GradientTransformation:
    if rule.decoupled_weight_decay:
        return optax.adamw(rule.lr, **_averages(rule), weight_decay=rule.weight_decay)
    return optax.adam(rule.lr, **_averages(rule))


def _adamax(rule: Any) -> optax.GradientTransformation:
    return optax.adamax(rule.lr, **_averages(rule))


def _adadelta(rule: Any) -> optax.GradientTransformation:
    return optax.adadelta(rule.lr, rule.rho, rule.eps)


def _nadam(rule: Any) -> optax.GradientTransformation:
    if rule.decoupled_weight_decay:
        return optax.nadamw(rule.lr, **_averages(rule), weight_decay=rule.weight_decay)
    return optax.nadam(rule.lr, **_averages(rule))


def _momentum_product(rule: Any, count: int) -> np.float32:
    """Return `betas[0]**count`, rounded after each product as torch rounds it."""
    product, before = np.float32(1), None
    for _ in range(count):
        if product == before:  # 0 at last, or 1 where float32 does not know the beta from 1
            break
        product, before = product * np.float32(rule.betas[0]), product
    return product


def _radam(rule: Any) -> optax.GradientTransformation:
    above = math.nextafter(5, math.inf)  # optax's "at least" becomes torch's "more than"
    if not rule.decoupled_weight_decay:
        return optax.radam(rule.lr, **_averages(rule), threshold=above)
    return optax.chain(
        optax.scale_by_radam(**_averages(rule), threshold=above),
        optax.add_decayed_weights(rule.weight_decay),
        optax.scale_by_learning_rate(rule.lr),
    )


def _averages(rule: Any) -> dict[str, Any]:
    return {"b1": rule.betas[0], "b2": rule.betas[1], "eps": rule.eps}


def _momentum(rule: Any) -> float | None:
    return rule.momentum if rule.has("momentum") else None


def _decaying(lr: Any, lr_decay: float) -> Schedule:
    """Return Adagrad's rate as a schedule."""

    def rate(count: Any) -> Any:
        first: Any = lr(count) if callable(lr) else lr
        return first / (1 + jnp.asarray(count, jnp.result_type(float)) * lr_decay)

    return rate


_MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu"}

_ADAM = Counterpart(
    _adam,
    _MOMENTS,
    differences=(
        Difference(
            lambda rule: rule.amsgrad,
            "amsgrad=True: torch takes the largest average of squares and corrects it by "
            "1 - beta2**t, optax takes the largest of the corrected averages; it would remember "
            "early gradients for much longer and make smaller steps",
        ),
    ),
)

COUNTERPARTS: Mapping[str, Counterpart] = {
    "SGD": Counterpart(
        _sgd,
        {"momentum_buffer": "trace"},
        differences=(
            Difference(
                lambda rule: rule.has("momentum") and rule.dampening != 0,
                "dampening={rule.dampening}: optax has none; it would add whole gradients to the "
                "momentum buffer, where torch adds 1 - dampening of each after the first",
            ),
        ),
        native=True,
    ),
    "Adagrad": Counterpart(
        _adagrad,
        {"sum": "sum_of_squares"},
        differences=(
            Difference(
                lambda rule: rule.eps != 0,
                "eps={rule.eps}: torch divides by sqrt(sum) + eps, optax by sqrt(sum + eps); "
                "elements with small gradients would make steps of another size. With eps=0 the "
                "formulas are equal, but that torch's step is NaN, and optax's 0, for an element "
                "that has had no gradient other than 0",
            ),
        ),
    ),
    "RMSprop": Counterpart(
        _rmsprop,
        {"square_avg": "nu", "grad_avg": "mu", "momentum_buffer": "trace"},
        differences=(
            Difference(
                lambda rule: rule.has("momentum") and callable(rule.lr),
                "momentum={rule.momentum} with a schedule: optax's momentum buffer takes up steps "
                "that are multiplied by the rate already; a new rate would not act on the old "
                "steps in it, as it does in torch. With a constant lr the formulas are equal",
            ),
            Difference(
                lambda rule: rule.has("momentum") and not callable(rule.lr) and rule.lr == 0,
                "momentum={rule.momentum} with lr=0: optax's momentum buffer is torch's times the "
                "rate; nothing would be left of it",
            ),
        ),
        factors={"momentum_buffer": lambda rule: -rule.lr},
    ),
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": Counterpart(_adamax, {"exp_avg": "mu", "exp_inf": "nu"}),
    "Adadelta": Counterpart(_adadelta, {"square_avg": "e_g", "acc_delta": "e_x"}),
    "NAdam": Counterpart(
        _nadam,
        _MOMENTS,
        differences=(
            Difference(
                lambda rule: 1 - 0.5 * 0.96**rule.momentum_decay != 1,
                "momentum_decay={rule.momentum_decay}: optax.nadam has no momentum schedule: its "
                "mu is betas[0] from the first gradient on, torch's rises to it as momentum_decay "
                "says; steps would be of another size. With momentum_decay=1000 or more the "
                "formulas are equal",
            ),
        ),
        derived={"mu_product": _momentum_product},
    ),
    "RAdam": Counterpart(
        _radam,
        _MOMENTS,
        differences=(
            Difference(
                lambda rule: rule.eps != 0,
                "eps={rule.eps}: torch adds eps to the root of the average of squares before it is "
                "corrected, optax after; elements with small gradients would make larger steps. "
                "With eps=0 the formulas are equal",
            ),
        ),
    ),
}

WITHOUT_COUNTERPART: Mapping[str, str] = {
    "ASGD": "optax has no such function",
    "SparseAdam": "optax has no such function, and takes no sparse gradients",
    "Rprop": "optax.rprop applies the step that it made at the gradient before; it would be one "
    "gradient late",
    "Adafactor": "optax.adafactor adds a constant to the squared gradient, where torch has a lower "
    "bound for the average, and has another weight decay; steps would be of another size",
    "Muon": "optax.contrib.muon corrects the average of gradients and orthogonalizes it in the "
    "parameter's type, torch in bfloat16 and without a correction; steps would be of another size",
}
