"""How far two orders of summation may drive Newton-Schulz iterates apart: derived, no fit.

One step is `f(x) = p(x)` on singular values, with `p(s) = a*s + b*s**3 + c*s**5`. Written with the
Hermitian matrix `[[0, x], [x.T, 0]]`, whose eigenvalues are plus and minus the singular values,

- two matrices x and y come out no further apart than `L * norm(x - y)` (Frobenius), where L is the
  largest divided difference `|p(s) - p(t)| / |s - t|` of an eigenvalue s of one and t of the other;
- a step rounds three times to bfloat16, by u = 2**-8 of each element: the Gram matrix g, its
  polynomial, and the result. An error d of g enters the polynomial as `b*d + c*(g@d + d@g)`, which
  is at most `max|b + c*(l + m)| * norm(d)` over eigenvalues l, m of g; and sums of k products in
  float32 are off by `k * 2**-24` times the sum of their absolute values, in whatever order.

Both runs round, and neither knows how the other did: their errors add up.
"""

import numpy as np

UNIT = 2.0**-8  # bfloat16: half the distance of 1 and the next number
SINGLE = 2.0**-24


def bound_on_drift(mine, theirs, coefficients):
    """Return how far apart the last iterates of two runs may be, in the Frobenius norm.

    Args:
        mine: the iterates of one run, from the normalized matrix on; no more rows than columns.
        theirs: those of the other.
        coefficients: a, b, c.
    """
    apart = sum(_first(run[0]) for run in (mine, theirs))
    for x, y in zip(mine[:-1], theirs[:-1], strict=True):
        apart = _growth(x, y, coefficients) * apart
        apart += sum(_rounded(one, coefficients) for one in (x, y))
    return apart


def norm(x):
    return np.linalg.norm(x)


def _sums(terms):
    """The relative error of a sum in float32, with that of the numbers multiplied into it."""
    return (terms + 4) * SINGLE


def _first(x):
    """The norm and the quotient round to bfloat16; the norm is a root of a sum."""
    return (2 * UNIT + UNIT**2 + _sums(x.size)) * norm(x) * (1 + 4 * UNIT)


def _growth(x, y, coefficients):
    a, b, c = coefficients
    s, t = (np.linalg.svd(one, compute_uv=False) for one in (x, y))
    pairs = np.meshgrid(s, np.concatenate([t, -t, [0.0]]))
    if x.shape[0] != x.shape[1]:
        pairs = [np.append(pairs[0], 0 * t), np.append(pairs[1], t)]
    s, t = pairs
    cubes = s * s + s * t + t * t
    fifths = s**4 + s**3 * t + s * s * t * t + s * t**3 + t**4
    return np.max(np.abs(a + b * cubes + c * fifths))


def _rounded(x, coefficients):
    """How far a step in bfloat16 is from the exact one."""
    a, b, c = coefficients
    rows, columns = x.shape
    largest = np.linalg.norm(x, 2)
    gram = x @ x.T
    error = UNIT * norm(gram) + (1 + UNIT) * _sums(columns) * norm(np.abs(x) @ np.abs(x).T)
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    polynomial = np.max(np.abs(b + c * (squares[:, None] + squares))) * error
    polynomial += abs(c) * error**2
    update = b * gram + c * gram @ gram
    near = np.abs(gram) + error
    polynomial += UNIT * (norm(update) + polynomial)
    polynomial += 2 * _sums(rows) * (abs(b) * norm(near) + abs(c) * norm(near @ near))
    result = a * x + update @ x
    moved = largest * polynomial
    products = norm((np.abs(update) + polynomial) @ np.abs(x))
    return moved + UNIT * (norm(result) + moved) + 2 * _sums(rows) * (abs(a) * norm(x) + products)
