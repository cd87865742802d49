"""One table, one test: every function of `rounding.py` against torch's method of that name.

All comparisons are to the bit. The second half of the table composes the functions, since XLA
merges and reorders operations that are right one by one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distance import same_numbers
from rounds import exhaustive
from torch_oracle import correctly_rounded_sqrt, to_numpy, to_torch
from torchwise.rounding import (
    Quotient,
    abs,
    add,
    addcdiv,
    addcmul,
    clamp,
    div,
    evaluated,
    full_like,
    lerp,
    maximum,
    mul,
    neg,
    reciprocal,
    rsqrt,
    sign,
    sqrt,
    square,
    sub,
)


class Row(NamedTuple):
    """One function, or a composition, of arrays and then numbers."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arrays: int
    numbers: tuple[float, ...] = ()
    # The sign of `maximum(-0.0, 0.0)` and of `lerp(-0.0, 1.0)` is one in torch's vectors and
    # another in the rest of an array, so there is no one answer to hold ours against.
    negative_zeros: bool = True


def lerps(weight: float) -> Row:
    name = f"lerp by {weight}"
    return Row(name, lerp, lambda x, y, s: x.lerp(y, s), 2, (weight,), negative_zeros=weight != 1)


# `add` of the number 0 has no row: XLA takes `x + 0` for `x`, so that -0.0 stays what it is.
FUNCTIONS = [
    Row("mul", mul, lambda x, y: x.mul(y), 2),
    Row("mul by a number", mul, lambda x, s: x.mul(s), 1, (0.1,)),
    Row("mul by zero", mul, lambda x, s: x.mul(s), 1, (0.0,)),
    Row("div", div, lambda x, y: x.div(y), 2),
    Row("div by a number", div, lambda x, s: x.div(s), 1, (0.3,)),
    Row("div by zero", div, lambda x, s: x.div(s), 1, (0.0,)),
    Row("add", add, lambda x, y: x.add(y), 2),
    Row("sub", sub, lambda x, y: x.sub(y), 2),
    Row("add a number", add, lambda x, s: x.add(s), 1, (0.1,)),
    Row(
        "add with alpha",
        lambda x, y, s: add(x, y, alpha=s),
        lambda x, y, s: x.add(y, alpha=s),
        2,
        (-0.013,),
    ),
    Row(
        "add with alpha zero",
        lambda x, y, s: add(x, y, alpha=s),
        lambda x, y, s: x.add(y, alpha=s),
        2,
        (0.0,),
    ),
    Row("addcmul", addcmul, lambda x, y, z: x.addcmul(y, z), 3),
    Row(
        "addcmul with value",
        lambda x, y, z, s: addcmul(x, y, z, value=s),
        lambda x, y, z, s: x.addcmul(y, z, value=s),
        3,
        (0.3,),
    ),
    Row(
        "addcmul with value -1",
        lambda x, y, s: addcmul(x, y, y, value=s),
        lambda x, y, s: x.addcmul(y, y, value=s),
        2,
        (-1.0,),
    ),
    Row("addcmul of a square", lambda x, y: addcmul(x, y, y), lambda x, y: x.addcmul(y, y), 2),
    Row(
        "addcmul of a square with value",
        lambda x, y, s: addcmul(x, y, y, value=s),
        lambda x, y, s: x.addcmul(y, y, value=s),
        2,
        (0.01,),
    ),
    Row("addcdiv", addcdiv, lambda x, y, z: x.addcdiv(y, z), 3),
    Row(
        "addcdiv with value",
        lambda x, y, z, s: addcdiv(x, y, z, value=s),
        lambda x, y, z, s: x.addcdiv(y, z, value=s),
        3,
        (-0.3,),
    ),
    # Below 0.5, at it, rounded to it (in float32) and above: torch has two branches.
    *map(lerps, (0.0, 0.1, 0.49999999999, 0.5, 0.9, 1.0)),
    Row("sqrt", sqrt, lambda x: x.sqrt(), 1),
    Row("rsqrt", rsqrt, lambda x: x.rsqrt(), 1),
    Row("reciprocal", reciprocal, lambda x: x.reciprocal(), 1),
    Row("maximum", maximum, lambda x, y: x.maximum(y), 2, negative_zeros=False),
    Row("clamp", clamp, lambda x, s, t: x.clamp(s, t), 1, (-0.7, 1.3)),
    Row("sign", sign, lambda x: x.sign(), 1),
    Row("abs", abs, lambda x: x.abs(), 1),
    Row("neg", neg, lambda x: x.neg(), 1),
    Row("square", square, lambda x: x.square(), 1),
    Row("full_like", full_like, lambda x, s: x.mul(0).nan_to_num(0, 0, 0).abs().add(s), 1, (0.1,)),
    Row(
        "a quotient, evaluated",
        lambda x, y: evaluated(Quotient(x, y)),
        lambda x, y: x.div(y),
        2,
    ),
]

COMPOSITIONS = [
    Row(
        "a product and a sum",
        lambda x, y, s: add(mul(x, s), y),
        lambda x, y, s: x.mul(s).add(y),
        2,
        (0.9,),
    ),
    Row(
        "a sum and a product",
        lambda x, y, z: add(x, mul(y, z)),
        lambda x, y, z: x.add(y.mul(z)),
        3,
    ),
    Row(
        "a product and a number",
        lambda x, s, t: add(mul(x, s), t),
        lambda x, s, t: x.mul(s).add(t),
        1,
        (0.3, 0.1),
    ),
    Row(
        "a difference of products",
        lambda x, y, s, t: add(mul(x, s), neg(mul(y, t))),
        lambda x, y, s, t: x.mul(s).add(y.mul(t).neg()),
        2,
        (0.9, 0.3),
    ),
    Row(
        "a product minus a product",
        lambda x, y, z, s: sub(mul(x, s), mul(y, z)),
        lambda x, y, z, s: x.mul(s).sub(y.mul(z)),
        3,
        (0.9,),
    ),
    Row(
        "a product with alpha",
        lambda x, y, z, s, t: add(mul(x, s), mul(y, z), alpha=t),
        lambda x, y, z, s, t: x.mul(s).add(y.mul(z), alpha=t),
        3,
        (0.9, 0.7),
    ),
    Row(
        "a square in a sum",
        lambda x, y: add(square(x), y),
        lambda x, y: x.square().add(y),
        2,
    ),
    Row(
        "two products by numbers",
        lambda x, s, t: mul(mul(x, s), t),
        lambda x, s, t: x.mul(s).mul(t),
        1,
        (0.1, 0.3),
    ),
    Row(
        "two sums with numbers",
        lambda x, s, t: add(add(x, s), t),
        lambda x, s, t: x.add(s).add(t),
        1,
        (0.1, 0.3),
    ),
    Row(
        "two quotients by numbers",
        lambda x, s, t: div(div(x, s), t),
        lambda x, s, t: x.div(s).div(t),
        1,
        (0.1, 0.3),
    ),
    Row("two quotients", lambda x, y, z: div(div(x, y), z), lambda x, y, z: x.div(y).div(z), 3),
    Row(
        "a quotient by a quotient",
        lambda x, y, z: div(x, div(y, z)),
        lambda x, y, z: x.div(y.div(z)),
        3,
    ),
    Row(
        "a quotient by a quotient by a number",
        lambda x, y, s: div(x, div(y, s)),
        lambda x, y, s: x.div(y.div(s)),
        2,
        (0.3,),
    ),
    Row(
        "a quotient by a reciprocal",
        lambda x, y: div(x, reciprocal(y)),
        lambda x, y: x.div(y.reciprocal()),
        2,
    ),
    Row(
        "the reciprocal of a quotient",
        lambda x, y: reciprocal(div(x, y)),
        lambda x, y: x.div(y).reciprocal(),
        2,
    ),
    Row(
        "a quotient by the reciprocal of a root",
        lambda x, y: div(x, rsqrt(y)),
        lambda x, y: x.div(y.rsqrt()),
        2,
    ),
    Row(
        "a quotient in a sum of quotients",
        lambda x, y, z: addcdiv(x, div(y, x), z),
        lambda x, y, z: x.addcdiv(y.div(x), z),
        3,
    ),
    Row(
        "a quotient and back",
        lambda x, s: mul(div(x, s), s),
        lambda x, s: x.div(s).mul(s),
        1,
        (0.3,),
    ),
    Row(
        "a product and back",
        lambda x, y: div(mul(x, y), y),
        lambda x, y: x.mul(y).div(y),
        2,
    ),
    Row(
        "a product with a reciprocal",
        lambda x, y: mul(x, reciprocal(y)),
        lambda x, y: x.mul(y.reciprocal()),
        2,
    ),
    Row(
        "a quotient by a root",
        lambda x, y: div(x, sqrt(abs(y))),
        lambda x, y: x.div(y.abs().sqrt()),
        2,
    ),
    Row(
        "the reciprocal of a root",
        lambda x: reciprocal(sqrt(x)),
        lambda x: x.sqrt().reciprocal(),
        1,
    ),
    Row("a root, squared", lambda x: square(sqrt(x)), lambda x: x.sqrt().square(), 1),
    Row("a root of a square", lambda x: sqrt(square(x)), lambda x: x.square().sqrt(), 1),
    Row(
        "a product by a root of a quotient",
        lambda x, y, s: mul(x, rsqrt(add(square(y), s))),
        lambda x, y, s: x.mul(y.square().add(s).rsqrt()),
        2,
        (1e-3,),
    ),
    Row(
        "the terms of SGD",
        lambda x, y, z, s, t: add(x, add(mul(y, s), z, alpha=t), alpha=-0.1),
        lambda x, y, z, s, t: x.add(y.mul(s).add(z, alpha=t), alpha=-0.1),
        3,
        (0.9, 0.7),
    ),
    Row(
        "an average of squares",
        lambda x, y, s, t: addcmul(mul(x, s), y, y, value=t),
        lambda x, y, s, t: x.mul(s).addcmul(y, y, value=t),
        2,
        (0.99, 0.01),
    ),
    Row(
        "a variance",
        lambda x, y, z, s: sqrt(addcmul(x, lerp(y, z, s), lerp(y, z, s), value=-1)),
        lambda x, y, z, s: x.addcmul(y.lerp(z, s), y.lerp(z, s), value=-1).sqrt(),
        3,
        (0.1,),
    ),
    Row(
        "a scaled direction",
        lambda x, y, s, t: div(mul(x, s), add(sqrt(y), t)),
        lambda x, y, s, t: x.mul(s).div(y.sqrt().add(t)),
        2,
        (0.3, 1e-3),
    ),
    Row(
        "the last line of Adam",
        lambda x, y, z, s, t: addcdiv(x, y, add(div(sqrt(z), s), t), value=-0.1),
        lambda x, y, z, s, t: x.addcdiv(y, z.sqrt().div(s).add(t), value=-0.1),
        3,
        (0.3, 1e-3),
    ),
    Row(
        "a quotient of products in a sum",
        lambda x, y, z, s: addcdiv(mul(x, s), mul(y, y), mul(z, s), value=s),
        lambda x, y, z, s: x.mul(s).addcdiv(y.mul(y), z.mul(s), value=s),
        3,
        (0.9,),
    ),
    Row(
        "a product that is clamped",
        lambda x, y, s, t, u: add(y, clamp(mul(x, s), t, u), alpha=0.9),
        lambda x, y, s, t, u: y.add(x.mul(s).clamp(t, u), alpha=0.9),
        2,
        (0.3, -0.7, 1.3),
    ),
    Row(
        "a product with a sign",
        lambda x, y, s: add(x, mul(sign(y), abs(mul(x, s)))),
        lambda x, y, s: x.add(y.sign().mul(x.mul(s).abs())),
        2,
        (0.3,),
    ),
]

TABLE = FUNCTIONS + COMPOSITIONS

# LLVM reads short rows in ways of its own, by their length and number.
ROWS = [(9, 1), (100, 2), (64, 3), (20, 4), (4, 5), (33, 6), (5, 7), (3, 8), (64, 9)]
ROWS += [(16, 8, 3, 3), (3, 100), (100, 3)]
VECTOR = (1003,)  # with a rest behind its whole blocks
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def draw(rng, shape, dtype, negative_zeros):
    """Numbers around 1 with special ones in between; no subnormal ones, which XLA flushes."""
    if dtype.kind == "c":
        real = np.empty(0, dtype).real.dtype
        return draw(rng, (*shape, 2), real, negative_zeros).view(dtype)[..., 0]
    numbers = rng.normal(size=shape) * 2.0 ** rng.integers(-3, 4, size=shape)
    special = rng.choice(SPECIAL, size=shape)
    drawn = np.where(rng.random(shape) < 0.15, special, numbers)
    return (drawn if negative_zeros else np.where(drawn == 0, 0.0, drawn)).astype(dtype)


def torchs(row, arrays):
    """What torch makes of arrays; of complex ones as pairs, of half precision in whole blocks.

    Torch's optimizers see complex arrays through `view_as_real`. Half types torch computes in
    float32 and rounds after each operation in the blocks of its vector code only.
    """
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if dtype.kind == "c":
        real = arrays[0].real.dtype
        arrays = [np.ascontiguousarray(array)[..., None].view(real) for array in arrays]
        return torchs(row, arrays).view(dtype).reshape(shape)
    if dtype.itemsize == 2:
        arrays = [in_blocks(array) for array in arrays]
    with correctly_rounded_sqrt():
        result = to_numpy(row.theirs(*map(to_torch, arrays), *row.numbers))
    return result.ravel()[: np.prod(shape, dtype=int)].reshape(shape)


def in_blocks(array):
    return np.concatenate([array.ravel(), np.ones(-array.size % 128, array.dtype)])


class Job(NamedTuple):
    """A shape, and whether the numbers are arrays (float64, as the rules have them) or Python's."""

    shape: tuple[int, ...]
    traced: bool


def daily_jobs(index, dtype):
    """For one row of the table; all rows have all shapes between them."""
    traced, constant = Job(VECTOR, traced=True), Job(ROWS[index % len(ROWS)], traced=False)
    if dtype == "float64":
        return [traced, constant]
    if dtype != "float32":
        return [traced if (index + len(dtype)) % 2 else constant]
    other = Job(ROWS[(5 * index + 1) % len(ROWS)], traced=True)
    return [traced, constant, other, Job(VECTOR, traced=False), Job((), traced=True)]


def all_jobs():
    return [Job(shape, traced) for shape in [VECTOR, (), *ROWS] for traced in (False, True)]


def check(row, dtype, jobs):
    """All jobs in one program; without numbers, those with traced ones say nothing new."""
    rng = np.random.default_rng(list(row.name.encode()))
    jobs = jobs if row.numbers else list(dict.fromkeys(job._replace(traced=False) for job in jobs))
    drawn = [
        [draw(rng, job.shape, jnp.dtype(dtype), row.negative_zeros) for _ in range(row.arrays)]
        for job in jobs
    ]

    @jax.jit
    def program(inputs, numbers):
        return [
            row.ours(*arrays, *(numbers if job.traced else row.numbers))
            for job, arrays in zip(jobs, inputs)
        ]

    with jax.enable_x64(True):
        found = program(drawn, [np.float64(number) for number in row.numbers])
    assert len(found) == len(jobs) > 0
    for job, arrays, ours in zip(jobs, drawn, found, strict=True):
        assert same_numbers(ours, torchs(row, arrays)), job


@pytest.fixture(params=TABLE, ids=[row.name for row in TABLE])
def row(request):
    return request.param


TYPES = ["float32", "float64", "bfloat16", "float16", "complex64"]


@pytest.mark.parametrize(
    "dtype", [TYPES[0], *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in TYPES[1:])]
)
def test_every_function_is_torchs_to_the_bit(row, dtype):
    check(row, dtype, daily_jobs(TABLE.index(row), dtype))


LANES = 3


@pytest.mark.parametrize("row", [row for row in TABLE if row.arrays > 1], ids=lambda row: row.name)
@pytest.mark.parametrize("number", [0, 1, -1], ids=["first", "second", "last"])
def test_every_function_of_which_vmap_maps_one_array(row, number):
    """XLA computes what is equal for all lanes once, and merges it with nothing."""
    rng = np.random.default_rng(list(row.name.encode()))
    arrays = [
        draw(rng, VECTOR, jnp.dtype("float32"), row.negative_zeros) for _ in range(row.arrays)
    ]
    lanes = draw(rng, (LANES, *VECTOR), jnp.dtype("float32"), row.negative_zeros)

    def with_one(mapped, arrays):
        replaced = list(arrays)
        replaced[number] = mapped
        return replaced

    def lane(mapped, arrays):
        return row.ours(*with_one(mapped, arrays), *row.numbers)

    found = jax.jit(jax.vmap(lane, in_axes=(0, None)))(lanes, arrays)
    assert len(found) == LANES
    for ours, mapped in zip(found, lanes, strict=True):
        assert same_numbers(ours, torchs(row, with_one(mapped, arrays)))


@exhaustive
@pytest.mark.parametrize("dtype", [*TYPES, "complex128"])
def test_every_function_in_all_shapes(row, dtype):
    check(row, dtype, all_jobs())
