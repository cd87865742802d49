"""What the compiled program looks like: no temporaries, on every platform the right fences."""

import jax
import jax.numpy as jnp
import jaxlib
import optax
import pytest

import shapes
import torchwise
from cases import FULL
from rounds import FIRST, each
from torchwise import averages, strips

RESNET = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.resnet50()]
ITS_SHAPES = [*dict.fromkeys(RESNET)]  # each once: a third of the time to compile


def stepping(transform, **options):
    return lambda params, state, grads: transform.step(grads, state, params, **options)


def updating(transform):
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def donated(step):
    return jax.jit(step, donate_argnums=(0, 1))


@pytest.fixture(params=each(FULL, FIRST[:1]))
def transform(request):
    return request.param.transform


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_temporaries(transform, step, temporaries=0.01):
    state = jax.eval_shape(transform.init, ITS_SHAPES)
    memory = donated(step).lower(ITS_SHAPES, state, ITS_SHAPES).compile().memory_analysis()
    assert memory.temp_size_in_bytes < temporaries * size(ITS_SHAPES)
    assert memory.alias_size_in_bytes > 0.995 * size((ITS_SHAPES, state))  # both donated in full


def test_the_shapes_are_resnet50s():
    assert len(RESNET) == 161
    assert set(ITS_SHAPES) == set(RESNET)
    assert sum(leaf.size for leaf in RESNET) == 25_557_032


# One sum, one average, two, states that depend on each other, and one that follows the parameter.
DIFFERENT = [
    case
    for case in FIRST
    if case.optimizer.stateful in ("SGD", "Adagrad", "Adam", "RMSprop", "Adadelta")
]


@pytest.mark.parametrize("case", each(FULL, FIRST[:1], DIFFERENT))
def test_temporaries_stay_under_one_percent_of_the_parameters(case):
    check_temporaries(case.transform, stepping(case.transform), case.optimizer.temporaries + 0.01)


@pytest.mark.parametrize("case", each(FULL, FIRST[:1], DIFFERENT))
def test_temporaries_of_a_step_that_is_a_whole_program(case):
    """Only small parameters, which are not cut into strips, have a temporary of their size."""
    step = stepping(case.transform, whole_program=True)
    small = sum(leaf.size for leaf in ITS_SHAPES if 4 * leaf.size < strips.LEAST_BYTES) * 4
    check_temporaries(
        case.transform, step, 0.02 + case.optimizer.temporaries * small / size(ITS_SHAPES)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    each(
        (case for case in FIRST if case.transform.rule.adds and not case.optimizer.temporaries),
        usual=FIRST[:2],
    ),
)
def test_temporaries_through_optax(case):
    """Where an increment is a sum; what is no sum is subtracted from the old parameter."""
    check_temporaries(case.transform, updating(case.transform))


def test_the_fence_stands_on_cpu_alone(transform):
    """That is the barrier for arrays; numbers may have others, on every platform."""
    params = [jax.ShapeDtypeStruct((1000,), jnp.float32)]
    state = jax.eval_shape(transform.init, params)
    traced = donated(stepping(transform)).trace(params, state, params)

    def fences(platform):
        lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
        barriers = [line for line in lines if "optimization_barrier" in line]
        return sum("tensor<1000xf32>" in line for line in barriers)

    assert fences("cpu") >= 1
    assert fences("cuda") == fences("tpu") == 0


def test_no_buffer_is_shared_before_donation(transform):
    params = [jnp.ones(3), jnp.ones(3), jnp.ones(())]
    state = transform.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)
    new, _ = donated(stepping(transform))(params, state, [jnp.ones(3), jnp.ones(3), jnp.ones(())])
    assert jnp.all(new[0] != 1)


CLIPPED = [torchwise.sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4), torchwise.adam()]


@pytest.mark.parametrize("rule", CLIPPED, ids=["sgd", "adam"])
def test_a_norm_of_all_gradients_needs_no_tree(rule):
    """With jaxlib from 0.10.2 on; before, XLA on CPU keeps the gradients that it has read."""
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), rule)
    kept = 0 if tuple(map(int, jaxlib.__version__.split(".")[:3])) >= (0, 10, 2) else 1
    check_temporaries(transform, stepping(transform), kept + 0.01)


def test_a_norm_behind_other_blocks_needs_one_tree():
    """On CPU, XLA hands sums to a library whose kernels take no selections, as `pinned` makes them.

    So what is summed up is an array in memory.
    """
    transform = torchwise.chain(torchwise.scale(0.5), torchwise.clip_grad_norm(1.0), CLIPPED[0])
    check_temporaries(transform, stepping(transform), temporaries=1.01)


@pytest.mark.parametrize("average", [averages.swa(), averages.ema(0.99)], ids=["swa", "ema"])
def test_an_average_needs_no_tree(average):
    state = jax.eval_shape(average.init, ITS_SHAPES)
    update = jax.jit(average.update, donate_argnums=0)
    memory = update.lower(state, ITS_SHAPES).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.01 * size(ITS_SHAPES)
    assert memory.alias_size_in_bytes > 0.995 * size(state)
