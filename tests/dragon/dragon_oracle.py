"""Dragon's SGD step in plain NumPy: every operation is rounded in the array's own type."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Options(NamedTuple):
    """What a group of Dragon's SGD holds; `lr` and `weight_decay` contain their multipliers."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    scale: float = 1.0
    clip_norm: float = 0.0


def gradient(x, g, options):
    """The gradient that meets momentum: scaled, clipped, decayed."""
    number = x.dtype.type
    if options.scale != 1:
        g = g * number(options.scale)
    if options.clip_norm > 0:
        norm = number(np.sqrt(np.sum(np.square(g, dtype=np.longdouble))))
        if norm > number(options.clip_norm):
            g = g * (number(options.clip_norm) / norm)
    if options.weight_decay > 0:
        g = axpy(number(options.weight_decay), x, g)
    return g


def axpy(alpha, x, y):
    """`alpha * x + y` as BLAS computes it where there is FMA: exact, then rounded once."""
    exact = [Fraction(float(alpha)) * Fraction(float(a)) + Fraction(float(b)) for a, b in zip(x, y)]
    return np.array([float(value) for value in exact], x.dtype)


def step(x, g, m, options, correction=1.0):
    """Return the parameter, the buffer and the largest numbers added after one step.

    Args:
        x: the parameter.
        g: its gradient.
        m: the buffer, the learning rates within.
        options: of this step.
        correction: the new rate over the old one, where momentum is corrected (for Nesterov this
            goes beyond Dragon).
    """
    number = x.dtype.type
    lr, momentum = number(options.lr), number(options.momentum)
    faded = momentum * number(correction) * m
    g = gradient(x, g, options)
    new = faded + lr * g
    ahead = (number(1) + momentum) * new
    move = ahead - faded if options.nesterov else new
    terms = (x, x - move, ahead, faded) if options.nesterov else (x, x - move, move)
    return x - move, new, np.max(np.abs(terms), axis=0)


def ulps(actual, expected, magnitude):
    """The greatest distance, in units of the last place of the magnitudes."""
    distance = np.abs(actual.astype(np.longdouble) - expected.astype(np.longdouble))
    return float(np.max(distance / np.spacing(magnitude)))
