"""What produces a gradient in the same program does not take part in the step.

XLA merges the operations before a step with those of the step: where the gradient is a product,
it would go into the first sum without ever being rounded. So each producer of the table stands in
one program with the step, and is held against torch's step on the gradient that the producer
gives in a program of its own.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cases import ADAGRAD, FULL, RMSPROP, SGD, Case
from distance import same_bits, same_numbers
from functional_run import FunctionalRun
from rounds import exhaustive
from torch_oracle import TorchRun, correctly_rounded_sqrt
from torchwise import optim


def normal(rng, shape):
    return rng.normal(size=shape)


def short(rng, shape):
    """Numbers of ten bits, whose products are exact, so that it is all one when they round."""
    return rng.integers(-1023, 1024, size=shape) / 512


def whole(rng, shape):
    """Small integers, whose sums are exact in every order."""
    return rng.integers(-9, 10, size=shape).astype(float)


def positive(rng, shape):
    return rng.uniform(0.5, 2, size=shape)


class Input(NamedTuple):
    """An array that a producer starts from; `dtype` where it is not the gradient's."""

    draw: Callable[..., Any]
    shape: tuple[int, ...]
    dtype: str | None = None

    def drawn(self, rng, dtype):
        return np.asarray(self.draw(rng, self.shape)).astype(jnp.dtype(self.dtype or dtype))


class Producer(NamedTuple):
    """A gradient as a function of arrays; its value is the same however it is compiled."""

    name: str
    produce: Callable[..., Any]
    inputs: tuple[Input, ...]


ONE = Input(positive, ())
VECTOR = Input(normal, (1003,))
ROWS = Input(normal, (33, 7))
KERNELS = Input(normal, (16, 4, 3, 3))
SHORT = Input(short, (20, 9))
SMALL = Input(lambda rng, shape: short(rng, shape) / 1024, (20, 9))
COUNTS = Input(whole, (3, 16, 4, 3, 3))


def scanned_mean(microbatches):
    total, _ = lax.scan(lambda old, one: (old + one, None), 0 * microbatches[0], microbatches)
    return total / microbatches.shape[0]


def clipped(grad):
    """By the norm of all of it, which is the root of an integer."""
    norm = jnp.sqrt(jnp.sum(grad * grad))
    return grad * jnp.minimum(1.0, 2.5 / norm)


def quadratic(param, factors):
    return jnp.sum(factors * param**2)


def convolution(kernel, image):
    return jnp.sum(lax.conv(image, kernel, (1, 1), "SAME"))


def normalized(gain, x, weights):
    """A layer's loss for one example; its mean is exact, since 16 divides the sum."""
    centered = x - jnp.mean(x)
    return jnp.sum(weights * gain * centered * lax.rsqrt(jnp.mean(centered**2) + 1.0))


def of_examples(param, x, factor):
    return factor * jnp.sum(param * x)


PRODUCERS = [
    Producer("a product with a constant", lambda x: x * 0.1, (KERNELS,)),
    Producer("a product with data", lambda x, s: x * s, (KERNELS, ONE)),
    Producer("a quotient by a constant", lambda x: x / 3.0, (ROWS,)),
    Producer("a quotient by data", lambda x, s: x / s, (ROWS, ONE)),
    Producer("a loss scale there and back", lambda x, s: x * s * (1 / s), (VECTOR, ONE)),
    Producer("a mean of microbatches", lambda x: jnp.mean(x, axis=0), (COUNTS,)),
    Producer("a sum of microbatches, scaled", lambda x: jnp.sum(x, axis=0) * 0.1, (COUNTS,)),
    Producer("a mean in a scan", scanned_mean, (COUNTS,)),
    Producer("clipped by its norm", clipped, (Input(whole, (33, 6)),)),
    Producer("an outer product", jnp.outer, (Input(normal, (17,)), Input(normal, (9,)))),
    Producer(
        "a matrix product of one example",
        lambda x, y: jnp.matmul(x.T, y),
        (Input(normal, (1, 33)), Input(normal, (1, 3))),
    ),
    Producer(
        "a matrix product, scaled",
        lambda x, y: jnp.matmul(x.T, y) * 0.3,
        (Input(whole, (4, 16)), Input(whole, (4, 5))),
    ),
    Producer(
        "the gain of a normalized layer",
        jax.grad(normalized),
        (Input(normal, (16,)), Input(lambda rng, shape: 16 * whole(rng, shape), (16,)), ONE),
    ),
    Producer("a sum of products", lambda a, b, c, d: a * b + c * d, (SHORT, SHORT, SHORT, SMALL)),
    Producer(
        "a difference of products", lambda a, b, c, d: a * b - c * d, (SHORT, SMALL, SHORT, SHORT)
    ),
    Producer("a decay in the loss", lambda a, b, c: a + b * c, (SHORT, SHORT, SMALL)),
    Producer("a square", lambda x: x * x, (ROWS,)),
    Producer("a cube", lambda x: x**3, (ROWS,)),
    Producer("the slope of tanh", lambda x, t: x * (1 - t * t), (Input(normal, (20, 9)), SHORT)),
    Producer("a negative product", lambda x, y: -(x * y), (VECTOR, VECTOR)),
    Producer("an exponential", jnp.exp, (ROWS,)),
    Producer("a root", lambda x, y: x * jnp.sqrt(y), (ROWS, Input(positive, (33, 7)))),
    Producer("a quotient", lambda x, y: x / y, (KERNELS, KERNELS)),
    Producer("a mask", lambda x, y, s: jnp.where(y > 0, x * s, 0.0), (KERNELS, KERNELS, ONE)),
    Producer("a product with a mask", lambda x, y: x * jnp.sign(y) * 1.1, (ROWS, ROWS)),
    Producer(
        "a cast from bfloat16",
        lambda x, s: x.astype(s.dtype) * s,
        (Input(normal, (16, 4, 3, 3), "bfloat16"), ONE),
    ),
    Producer(
        "integers, scaled",
        lambda x, s: x.astype(s.dtype) * s,
        (Input(whole, (64, 3), "int8"), ONE),
    ),
    Producer("a transposed product", lambda x, y: (x * y).T, (ROWS, ROWS)),
    Producer("a reshaped product", lambda x, s: (x * s).reshape(64, 9), (KERNELS, ONE)),
    Producer(
        "a broadcast product",
        lambda x, s: jnp.broadcast_to(x * s, (20, 9)),
        (Input(normal, (9,)), ONE),
    ),
    Producer(
        "concatenated products",
        lambda x, y, s: jnp.concatenate([x * s, y * 0.1]),
        (ROWS, ROWS, ONE),
    ),
    Producer("a slice of a product", lambda x, s: (x * s)[1:, 2:], (ROWS, ONE)),
    Producer("a padded product", lambda x, s: jnp.pad(x * s, 1), (ROWS, ONE)),
    Producer("the gradient of a quadratic", jax.grad(quadratic), (KERNELS, KERNELS)),
    Producer(
        "the gradient of a convolution",
        lambda kernel, image, s: jax.grad(convolution)(kernel, image) * s,
        (KERNELS, Input(whole, (1, 4, 6, 6)), ONE),
    ),
    Producer(
        "gradients of examples",
        lambda param, x, s: jnp.mean(jax.vmap(jax.grad(of_examples), (None, 0, 0))(param, x, s), 0),
        (ROWS, Input(whole, (3, 33, 7)), Input(whole, (3,))),
    ),
    Producer("cumulative sums", lambda x: jnp.cumsum(x) * 0.1, (Input(whole, (100,)),)),
    Producer("a product of numbers", lambda s, t: s * t, (ONE, ONE)),
]

# With a decay, the gradient and the parameter are used more than once, which is why LLVM leaves
# products alone. In these they go into one sum as they are.
BARE = [
    Case("sgd momentum=0.9", SGD, {"lr": 0.1, "momentum": 0.9}),
    Case("adagrad", ADAGRAD, {"lr": 0.01}),
    Case("rmsprop", RMSPROP, {"lr": 0.01}),
]
SHAPES = [(33, 7), (16, 4, 3, 3), (1003,), (64, 3), ()]
PARAMETERS = [
    Producer("a product with a constant", lambda x: x * 0.9, (KERNELS,)),
    Producer("a product with data", lambda x, s: x * s, (ROWS, ONE)),
    Producer("a product of arrays", lambda x, y: x * y, (VECTOR, VECTOR)),
    Producer("a quotient by data", lambda x, s: x / s, (KERNELS, ONE)),
    Producer("a sum of products", lambda a, b, c, d: a * b + c * d, (SHORT, SHORT, SHORT, SMALL)),
    Producer("a decayed parameter", lambda x, s: x - 0.1 * s * x, (Input(short, (64, 3)), ONE)),
    Producer(
        "a cast from bfloat16",
        lambda x, s: x.astype(s.dtype) * s,
        (Input(normal, (16, 4, 3, 3), "bfloat16"), ONE),
    ),
    Producer("a tied product", lambda x, y: (x * y).T, (ROWS, ROWS)),
]


def drawn(producers, rng, dtype):
    return [[start.drawn(rng, dtype) for start in producer.inputs] for producer in producers]


def together(producers):
    """All that the producers make, in one program."""
    return lambda inputs: [one.produce(*of_one) for one, of_one in zip(producers, inputs)]


@functools.cache
def apart(producers):
    """The same in a program of its own, which all cases share."""
    return jax.jit(together(producers))


def params_like(arrays, rng):
    return [rng.normal(size=np.shape(array)).astype(array.dtype) for array in arrays]


def correct_roots(case):
    return correctly_rounded_sqrt() if case.optimizer.roots else contextlib.nullcontext()


def differing(ours, theirs, case, producers):
    """The names of the producers whose parameter or state is not torch's to the bit."""
    columns = [(ours.params, theirs.params)]
    columns += [(ours.states(key), theirs.states(key)) for key in case.optimizer.state_keys]
    return sorted(
        {
            producer.name
            for our_leaves, their_leaves in columns
            for producer, our, their in zip(producers, our_leaves, their_leaves, strict=True)
            if not (our is None and their is None) and not same_numbers(our, their)
        }
    )


class ProducedRun(FunctionalRun):
    """A chain whose gradients are made in the program of the step."""

    def __init__(self, case, producers, params):
        transform, produce = case.transform, together(producers)
        super().__init__(
            transform,
            params,
            jax.jit(lambda params, state, given: transform.step(produce(given), state, params)),
        )

    def step_from(self, inputs):
        self.params, self.state = self._step(self.params, self.state, inputs)


def check_gradients(case, producers, dtype, steps):
    rng = np.random.default_rng(10)
    produce = apart(tuple(producers))
    params = params_like(produce(drawn(producers, rng, dtype)), rng)
    ours = ProducedRun(case, producers, params)
    theirs = TorchRun(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        for _ in range(steps):
            inputs = drawn(producers, rng, dtype)
            ours.step_from(inputs)
            theirs.step(list(map(np.asarray, produce(inputs))))
    assert differing(ours, theirs, case, producers) == []


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.mark.slow
@each([*FULL, BARE[0]])
def test_no_producer_of_a_gradient_takes_part(case):
    """The cases have all producers between them, several times; the next test has all in each."""
    producers = PRODUCERS[FULL.index(case) % 3 :: 3] if case in FULL else PRODUCERS
    check_gradients(case, producers, "float32", steps=3)


@exhaustive
@each(FULL)
def test_no_producer_of_a_gradient_takes_part_in_any_case(case):
    check_gradients(case, PRODUCERS, "float32", steps=3)


@pytest.mark.parametrize(
    "producer",
    [
        pytest.param(producer, id=producer.name, marks=pytest.mark.slow if index % 8 else ())
        for index, producer in enumerate(PRODUCERS)
    ],
)
def test_no_producer_takes_part_alone(producer):
    """Next to others a value may be computed in a kernel of its own, and here it is not."""
    check_gradients(BARE[0], [producer], "float32", steps=2)


@each([FULL[0], BARE[0]])
def test_no_producer_takes_part_in_float64(case):
    with jax.enable_x64(True):
        check_gradients(case, PRODUCERS[1::4], "float64", steps=2)


@pytest.mark.slow
@each([*FULL, *BARE])
def test_no_producer_of_a_parameter_takes_part(case):
    rng = np.random.default_rng(11)
    transform, produce = case.transform, together(PARAMETERS)
    inputs = drawn(PARAMETERS, rng, "float32")
    params = [np.asarray(param) for param in apart(tuple(PARAMETERS))(inputs)]
    step = jax.jit(lambda inputs, state, grads: transform.step(grads, state, produce(inputs)))
    ours = FunctionalRun(transform, params)
    theirs = TorchRun(case.optimizer.theirs, params, **case.hyperparameters)
    grads = params_like(params, rng)
    ours.params, ours.state = step(inputs, ours.state, grads)
    with correct_roots(case):
        theirs.step(grads)
    assert differing(ours, theirs, case, PARAMETERS) == []


def scaled_loss(params, factors, scale):
    return scale * sum(jnp.sum(factor * param**2) for factor, param in zip(factors, params))


@each([BARE[0], FULL[-1]])
def test_one_program_for_loss_and_step_gives_the_same_bits_as_two(case):
    """`train_step` is one program, `backward` and `step` are two."""
    rng = np.random.default_rng(12)
    params = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    factors, scale = params_like(params, rng), np.float32(0.37)
    one, two = (
        getattr(optim, case.optimizer.stateful)(params, **case.hyperparameters) for _ in range(2)
    )
    for _ in range(3):
        one.train_step(scaled_loss, factors, scale)
        two.zero_grad()
        two.backward(scaled_loss, factors, scale)
        two.step()
    leaves = zip(jax.tree.leaves(one.state_dict()), jax.tree.leaves(two.state_dict()), strict=True)
    for ours, theirs in [*zip(one.params, two.params, strict=True), *leaves]:
        assert same_bits(ours, theirs)
    assert not same_bits(one.params[0], params[0])
