"""dragon.SGD against Dragon's step in NumPy, with groups, windows and absent gradients."""

import jax.numpy as jnp
import numpy as np
import pytest
from dragon_oracle import Options, step, ulps
from dragon_runs import STEPS, gradients, parameters, rates

from torchwise import dragon

SIZE = 67
BASE = {"momentum": 0.9, "weight_decay": 0.02, "scale": 0.5}
# Ulps of the largest number that a step adds, as in test_dragon_formulas and for its reasons.
GROUPS = [
    ({"lr_mult": 0.5, "decay_mult": 3.0, "clip_norm": 2.0}, 0),
    ({"nesterov": True, "decay_mult": 0}, 2),
    ({"momentum": 0, "lr_mult": 2, "scale": 0.25}, 1),
]

# Which of the six parameters get a gradient; few patterns, since each is a program to compile.
PRESENT = [(1, 1, 1, 1, 1, 1), (1, 0, 1, 0, 1, 0), (0, 0, 0, 0, 0, 0)]


class Reference:
    """What Dragon's documentation says of one parameter in one group."""

    def __init__(self, group, corrected, dtype):
        self.group = {**BASE, "nesterov": False, "clip_norm": 0.0, **group}
        self.corrected = corrected
        self.grad = self.sum = None
        self.m, self.last_lr = np.zeros(SIZE, dtype), dtype(1)

    def accumulate_grad(self):
        if self.grad is not None:
            self.sum = self.grad if self.sum is None else self.sum + self.grad

    def zero_grad(self, reset):
        if self.grad is not None or self.sum is not None:
            self.grad = None if reset else np.zeros_like(self.m)
        self.sum = None

    def step(self, x, base_lr):
        g, self.sum = self.grad if self.sum is None else self.sum, None
        if g is None:
            return x, np.abs(x)
        lr = base_lr * self.group.get("lr_mult", 1)
        stays = self.corrected and lr == 0
        effective, ratio = lr, 1.0
        if self.corrected:
            effective = float(self.last_lr) if stays else lr
            ratio = x.dtype.type(effective) / self.last_lr
            self.last_lr = x.dtype.type(effective)
        options = Options(
            effective,
            self.group["momentum"],
            self.group["weight_decay"] * self.group.get("decay_mult", 1),
            self.group["nesterov"],
            self.group["scale"],
            self.group["clip_norm"],
        )
        new, self.m, terms = step(x, g, self.m, options, ratio)
        return (x if stays else new), terms


def build(dtype, corrected=False):
    values = np.random.default_rng(0).standard_normal((len(GROUPS), 2, SIZE)).astype(dtype)
    groups = [
        {"params": [jnp.asarray(one) for one in pair], **group}
        for pair, (group, _) in zip(values, GROUPS)
    ]
    return dragon.SGD(groups, 0.1, **BASE, momentum_correction=corrected)


def events(seed, lrs):
    """One call after the other: (name, argument); each step has one to three lists of gradients."""
    rng = np.random.default_rng(seed)
    values = [gradients(seed + index, SIZE, coarse=True) for index in range(2 * len(GROUPS))]
    for index, lr in enumerate(lrs):
        for window in range(rng.integers(1, 4)):
            given = PRESENT[rng.integers(len(PRESENT))]
            row = (index + window) % STEPS
            yield "grad", [one[row] if there else None for one, there in zip(values, given)]
            if index % 3:
                yield "accumulate_grad", None
        if index % 7 == 0:
            yield "zero_grad", bool(rng.integers(2))
        yield "step", lr


@pytest.mark.parametrize("corrected", [False, True])
def test_a_hundred_steps_are_dragons(corrected, precision):
    dtype = np.dtype(precision).type
    optimizer = build(dtype, corrected)
    references = [Reference(g, corrected, dtype) for g, _ in GROUPS for _ in range(2)]
    allowed = [ulp for _, ulp in GROUPS for _ in range(2)]
    lrs = [0.0 if index in (40, 41) else lr for index, lr in enumerate(rates(1))]
    for name, argument in events(2, lrs):
        if name == "grad":
            for one, reference, grad in zip(parameters(optimizer), references, argument):
                reference.grad = None if grad is None else grad.astype(dtype)
                one.grad = reference.grad
        elif name == "accumulate_grad":
            optimizer.accumulate_grad()
            for reference in references:
                reference.accumulate_grad()
        elif name == "zero_grad":
            optimizer.zero_grad(reset=argument)
            for reference in references:
                reference.zero_grad(argument)
        else:
            take_step(optimizer, references, argument, allowed)
    assert all(one in optimizer.state for one in parameters(optimizer)[:4])


def take_step(optimizer, references, lr, allowed):
    before = [np.asarray(one.data) for one in parameters(optimizer)]
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    for one, x, reference, ulp in zip(parameters(optimizer), before, references, allowed):
        expected, terms = reference.step(x, lr)
        assert ulps(np.asarray(one.data), expected, terms) <= ulp
        entry = optimizer.state.get(one, {})
        if "velocity" in entry:
            np.testing.assert_array_equal(entry["velocity"], reference.m)
