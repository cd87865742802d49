"""Clipping by the norm of all gradients, and by value, against torch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax.experimental.sparse import BCOO

import torchwise
from distance import same_bits, same_numbers, ulps_apart
from torch_oracle import TorchRun, to_numpy, to_torch
from torchwise import optim
from torchwise.nn.utils import clip_grad_norm_, clip_grad_value_
from torchwise.norms import clip_coefficient
from torchwise.rounding import mul

DTYPES = ["float32", "float64", "bfloat16", "float16"]
ORDERS = [2.0, 1.0, math.inf, -math.inf, 0.0, 3.0, 0.5, -1.0]
SHAPES = [(1003,), (33, 7), (), (0,), (16, 4, 3, 3)]


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def drawn(seed, dtype="float32", shapes=SHAPES, scale=1.0):
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(scale * rng.normal(size=shape)) for shape in shapes]
    if np.dtype(dtype).kind == "c":
        arrays = [array + 1j * scale * rng.normal(size=array.shape) for array in arrays]
    return [array.astype(dtype) for array in arrays]


def with_whole_norms(rng, shapes):
    """Integers whose squares sum up to a square in every array, and over all of the arrays.

    Then no order of the sums makes a difference, and no root is rounded.
    """
    lengths = [3, 4, 12, 84][: len(shapes)]  # 3, 4; 5, 12; 13, 84: hypotenuses
    arrays = []
    for shape, length in zip(shapes, lengths):
        flat = np.zeros(math.prod(shape))
        flat[rng.integers(flat.size)] = length * rng.choice([-1, 1])
        arrays.append(flat.reshape(shape))
    return arrays


def holders(grads):
    params = [torch.nn.Parameter(torch.zeros_like(to_torch(grad))) for grad in grads]
    for param, grad in zip(params, grads):
        param.grad = to_torch(grad)
    return params


def torch_norm(grads, norm_type=2.0):
    return torch.nn.utils.get_total_norm([to_torch(grad) for grad in grads], norm_type)


def exact_norm(grads, norm_type):
    flat = np.concatenate([np.abs(grad).astype(np.float64).ravel() for grad in grads])
    if norm_type == 0:
        return float(sum(np.any(grad) for grad in grads))
    return np.linalg.norm(flat, norm_type)


# The norm.


def bound(norm_type, dtype):
    """In ulp: powers with other exponents round more, as do magnitudes of complex numbers."""
    if norm_type not in (0, 1, 2, math.inf, -math.inf):
        return 8
    return 4 if dtype == "complex64" and norm_type == 1 else 2


@pytest.mark.parametrize(
    ("norm_type", "dtype"),
    # Of complex numbers torch counts those whose real part is not zero, and warns.
    [
        (order, dtype)
        for order in ORDERS
        for dtype in [*DTYPES, "complex64"]
        if (order, dtype) != (0, "complex64")
    ],
)
def test_norms_are_close_to_the_exact_ones(norm_type, dtype):
    """The exact norm is one of the arrays' norms after these were rounded to their types."""
    grads = drawn(0, dtype, [shape for shape in SHAPES if 0 not in shape], scale=0.003)
    ours = torchwise.get_total_norm(list(map(jnp.asarray, grads)), norm_type)
    theirs = torch_norm(grads, norm_type)
    assert ours.shape == ()
    assert ours.dtype == to_numpy(theirs).dtype
    each = [np.asarray(exact_norm([grad], norm_type)).astype(ours.dtype) for grad in grads]
    exact = np.asarray(exact_norm(each, norm_type)).astype(ours.dtype)
    assert ulps_apart(ours, exact) <= bound(norm_type, dtype)
    relative = {"bfloat16": 2e-2, "float16": 2e-3}.get(dtype, 1e-5)
    np.testing.assert_allclose(float(ours), float(theirs), rtol=relative)


def test_large_arrays_sum_up_exactly_enough():
    """torch's float32 sum of 25 million squares is off by 0.1 %."""
    grad = np.random.default_rng(1).normal(size=3_000_000).astype(np.float32)
    exact = np.float32(np.linalg.norm(grad.astype(np.float64)))
    assert ulps_apart(torchwise.get_total_norm(jnp.asarray(grad)), exact) <= 2


@pytest.mark.parametrize(
    "dtypes",
    [
        ("float32", "float64"),
        ("bfloat16", "float16"),
        ("bfloat16", "float32"),
        ("complex64", "float32"),
        ("complex128", "float32"),
    ],
)
def test_mixed_types_promote_as_in_torch(dtypes):
    grads = [drawn(2, dtype, [(7, 9)])[0] for dtype in dtypes]
    ours = torchwise.get_total_norm(list(map(jnp.asarray, grads)))
    theirs = to_numpy(torch_norm(grads))
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-2 if "float16" in dtypes else 1e-5)


def test_what_is_no_gradient():
    assert same_bits(torchwise.get_total_norm({}), to_numpy(torch_norm([])))
    assert torchwise.get_total_norm(None) == 0
    tree = {"a": jnp.array([3.0]), "b": None, "c": optax.MaskedNode(), "d": np.array([4.0])}
    tree["e"] = np.zeros(2, jax.dtypes.float0)
    assert torchwise.get_total_norm(tree) == 5
    assert torchwise.get_total_norm(jnp.array([3.0, 4.0])) == 5
    for order in (math.inf, -math.inf, "inf"):
        assert torchwise.get_total_norm([jnp.zeros(0), jnp.array([2.0])], order) in (0, 2)
    with pytest.raises(TypeError, match=r"\['a'\] is no array of gradients, but an array of int32"):
        torchwise.get_total_norm({"a": jnp.array([1], jnp.int32)})
    with pytest.raises(TypeError, match=r"\['a'\] is no array of gradients, but a str"):
        torchwise.get_total_norm({"a": "text"})
    sparse = BCOO.fromdense(jnp.ones((2, 3)), n_dense=1)
    with pytest.raises(TypeError, match=r"\['a'\] .* a BCOO; pass its todense\(\)"):
        torchwise.get_total_norm({"a": sparse})


def test_sparse_gradients_are_refused():
    table = jnp.ones((2, 3))
    sparse = BCOO.fromdense(table, n_dense=1)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.sgd(lr=0.1))
    with pytest.raises(TypeError, match="looks at whole gradients, but one is sparse: pass"):
        transform.step(sparse, transform.init(table), table)
    parameter = optim.Parameter(table, name="table")
    parameter.grad = sparse
    for clip in (clip_grad_norm_, clip_grad_value_):
        with pytest.raises(NotImplementedError, match="of parameter 'table' is sparse: pass its"):
            clip(parameter, 1.0)
    assert parameter.grad is sparse


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_norm_that_is_not_finite(value):
    grads = [np.array([1.0, value], np.float32)]
    assert str(float(torchwise.get_total_norm(list(map(jnp.asarray, grads))))) == str(value)
    with pytest.raises(RuntimeError) as theirs:
        torch.nn.utils.get_total_norm(list(map(to_torch, grads)), error_if_nonfinite=True)
    with pytest.raises(RuntimeError) as ours:
        torchwise.get_total_norm(jnp.asarray(grads[0]), error_if_nonfinite=True)
    assert str(ours.value) == str(theirs.value)
    transform = torchwise.chain(
        torchwise.clip_grad_norm(1.0, error_if_nonfinite=True), torchwise.sgd(lr=1.0)
    )
    state = transform.init(jnp.asarray(grads[0]))
    with pytest.raises(RuntimeError) as ours:
        transform.step(jnp.asarray(grads[0]), state, jnp.zeros(2, jnp.float32))
    assert str(ours.value) == str(theirs.value)
    with pytest.raises(RuntimeError, match="has no effect in a compiled program"):
        jax.jit(transform.step)(jnp.asarray(grads[0]), state, jnp.zeros(2, jnp.float32))


# The factor.


@pytest.mark.parametrize("norm_dtype", DTYPES)
@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
def test_the_same_norm_gives_the_same_bits(dtype, norm_dtype):
    rng = np.random.default_rng(3)
    shorten = jax.jit(lambda grad, limit, norm: mul(grad, clip_coefficient(limit, norm)))
    for norm in [*rng.uniform(0, 40, size=12), 0.0, 1.0, 1e-7, 3.0]:
        norm = np.asarray(norm).astype(norm_dtype)
        limit = float(rng.uniform(0, 3))
        [grad] = drawn(int(1e6 * limit), dtype, [(103,)])
        [param] = holders([grad])
        torch.nn.utils.clip_grads_with_norm_([param], limit, to_torch(norm))
        ours = shorten(jnp.asarray(grad), limit, jnp.asarray(norm))
        assert same_bits(ours, to_numpy(param.grad)), (norm, limit)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("limit", [0.0, 1.0, math.inf])
def test_infinite_gradients_end_as_in_torch(value, limit):
    grad = np.array([3.0, -4.0, value, -0.0], np.float32)
    [param] = holders([grad])
    torch.nn.utils.clip_grad_norm_([param], limit)
    block = torchwise.clip_grad_norm(limit)
    ours, _ = jax.jit(block.update)(jnp.asarray(grad), block.init(grad), jnp.asarray(grad))
    np.testing.assert_array_equal(ours, to_numpy(param.grad))


@pytest.mark.parametrize("limit", [-1.0, math.nan, np.array(-1.0), -1])
def test_a_limit_below_zero_is_refused(limit):
    with pytest.raises(ValueError, match="max_norm must be at least 0"):
        torchwise.clip_grad_norm(limit)
    with pytest.raises(ValueError, match="clip_value must be at least 0"):
        torchwise.clip_grad_value(limit)


# In a chain.


def rules():
    return [
        (torchwise.sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (torchwise.adamax, torch.optim.Adamax, {"lr": 0.1, "weight_decay": 0.01}),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ours", "theirs", "options"), rules(), ids=["sgd", "adamax"])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
def test_a_chain_is_torch_with_clip_grad_norm(ours, theirs, options, norm_type, dtype):
    rng = np.random.default_rng(4)
    shapes = [(103,), (33, 7), (64,), (4, 4, 3, 3)]
    params = drawn(5, dtype, shapes)
    run = TorchRun(theirs, params, **options)
    transform = torchwise.chain(torchwise.clip_grad_norm(7.0, norm_type), ours(**options))
    step = jax.jit(lambda params, state, grads: transform.step(grads, state, params))
    values = list(map(jnp.asarray, params))
    state = transform.init(values)
    for _ in range(10):
        grads = [grad.astype(dtype) for grad in with_whole_norms(rng, shapes)]
        values, state = step(values, state, list(map(jnp.asarray, grads)))
        for tensor, grad in zip(run.tensors, grads):
            tensor.grad = to_torch(grad)
        torch.nn.utils.clip_grad_norm_(run.tensors, 7.0, norm_type)
        run.optimizer.step()
    for one, other in zip(values, run.params):
        assert same_bits(one, other)


def test_update_clips_as_step_does():
    params = list(map(jnp.asarray, drawn(6)))
    grads = list(map(jnp.asarray, drawn(7)))
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.sgd(lr=0.5, momentum=0.9))

    @jax.jit
    def both(params, grads):
        state = transform.init(params)
        updates, _ = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), transform.step(grads, state, params)[0]

    for one, other in zip(*both(params, grads)):
        assert same_bits(one, other)


def test_the_norm_is_of_what_the_blocks_in_front_pass_on():
    """Unscaled first, as with a loss scale; and behind a momentum, of its buffer."""
    grads = {"a": jnp.array([6.0, 0.0]), "b": jnp.array([8.0])}
    params = jax.tree.map(jnp.zeros_like, grads)
    transform = torchwise.chain(
        torchwise.scale(0.5), torchwise.clip_grad_norm(2.5), torchwise.sgd(lr=1.0)
    )
    moved, _ = transform.step(grads, transform.init(params), params)
    np.testing.assert_allclose(moved["a"], [-1.5, 0], rtol=1e-6)
    transform = torchwise.chain(
        torchwise.trace(0.5),
        torchwise.clip_grad_norm(3.0),
        torchwise.clip_grad_norm(1.0),
        torchwise.scale_by_learning_rate(1.0),
    )
    step = jax.jit(lambda params, state, grads: transform.step(grads, state, params))
    first, state = step(params, transform.init(params), grads)
    np.testing.assert_allclose(first["b"], [-0.8], rtol=1e-5)
    second, state = step(params, state, grads)
    np.testing.assert_allclose(second["b"], [-0.8], rtol=1e-5)
    np.testing.assert_array_equal(state.states[0].momentum_buffer["b"], [12.0])


def test_missing_gradients_have_no_share():
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.sgd(lr=1.0))
    params = {"w": jnp.zeros(2), "frozen": jnp.ones(1)}
    grads = {"w": jnp.array([3.0, 4.0]), "frozen": None}
    moved, state = transform.step(grads, transform.init(params), params)
    np.testing.assert_allclose(moved["w"], [-0.6, -0.8], rtol=1e-5)
    np.testing.assert_array_equal(moved["frozen"], [1.0])
    nothing, _ = transform.step({"w": None, "frozen": None}, state, params)
    np.testing.assert_array_equal(nothing["w"], params["w"])
    assert transform.step({}, transform.init({}), {})[0] == {}


def test_the_limit_may_be_a_schedule_or_an_array():
    grads, params = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.zeros(2)}
    for per_parameter_steps in (False, True):
        transform = torchwise.chain(
            torchwise.clip_grad_norm(lambda count: 1.0 + count.astype(jnp.float32)),
            torchwise.sgd(lr=1.0),
            per_parameter_steps=per_parameter_steps,
        )
        state = transform.init(params)
        for expected in (1.0, 2.0, 3.0):
            moved, state = transform.step(grads, state, params)
            np.testing.assert_allclose(jnp.linalg.norm(moved["w"]), expected, rtol=1e-6)
    step = jax.jit(lambda transform, state: transform.step(grads, state, params)[0]["w"])
    for limit in (1.0, 2.0):
        transform = torchwise.chain(torchwise.clip_grad_norm(limit), torchwise.sgd(lr=1.0))
        moved = step(transform, transform.init(params))
        np.testing.assert_allclose(jnp.linalg.norm(moved), limit, rtol=1e-6)
    assert step._cache_size() == 1


def groups(momentum=0.9):
    """A model of torch with two groups, saved, and its parameters here."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    optimizer = torch.optim.SGD(
        [{"params": weights[:1]}, {"params": weights[1:], "lr": 0.2}], lr=0.1, momentum=momentum
    )
    optimizer.zero_grad()
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return weights, optimizer, [jnp.asarray(to_numpy(weight)) for weight in weights]


@pytest.mark.parametrize("way", ["step", "update"])
def test_one_norm_over_all_groups(way):
    """The gradients of one group are longer than the bound, together and alone."""
    weights, optimizer, params = groups()
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), transform)

    @jax.jit
    def step(params, state, grads):
        if way == "step":
            return transform.step(grads, state, params)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for lengths in ((3.0, 4.0), (5.0, 12.0)):
        grads = [np.zeros((4, 3), np.float32), np.zeros(3, np.float32)]
        for grad, length in zip(grads, lengths):
            grad.flat[1] = length
        params, state = step(params, state, list(map(jnp.asarray, grads)))
        for weight, grad in zip(weights, grads):
            weight.grad = to_torch(grad)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    for param, weight in zip(params, weights):
        assert same_bits(param, to_numpy(weight))
    saved = torchwise.to_state_dict(transform, state, params)
    for index, buffer in enumerate(optimizer.state_dict()["state"].values()):
        theirs = to_numpy(buffer["momentum_buffer"])
        assert same_bits(saved["state"][index]["momentum_buffer"], theirs)


def test_what_may_stand_in_front_of_groups():
    _, optimizer, params = groups()
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params)
    with pytest.raises(TypeError, match="Trace has a state"):
        torchwise.chain(torchwise.trace(0.9), transform)
    with pytest.raises(TypeError, match="give per_parameter_steps=True to grouped"):
        torchwise.chain(torchwise.maximize(), transform, per_parameter_steps=True)
    with pytest.raises(TypeError, match="must be the last"):
        torchwise.chain(torchwise.sgd(), transform)
    with pytest.raises(TypeError, match="argument 0"):
        torchwise.chain(transform, torchwise.maximize())
    scheduled = torchwise.chain(torchwise.clip_grad_norm(lambda count: 1.0), transform)
    with pytest.raises(ValueError, match="groups behind a block do not count for it"):
        scheduled.step(params, state, params)
    twice = torchwise.chain(
        torchwise.maximize(), torchwise.chain(torchwise.clip_grad_norm(1.0), transform)
    )
    assert repr(twice).startswith("chain(Maximize(), ClipGradNorm(")
    leaves, treedef = jax.tree.flatten(twice)
    assert repr(treedef.unflatten(leaves)) == repr(twice)
    up, _ = twice.step(params, state, params)
    assert jnp.all(jnp.isfinite(up[0]))


def test_it_is_no_part_of_a_state_dict():
    params = {"w": jnp.ones(3)}
    plain = torchwise.adam(lr=0.1)
    transform = torchwise.chain(
        torchwise.clip_grad_norm(1e6), torchwise.clip_grad_value(1e6), plain
    )
    grads = {"w": jnp.array([1.0, 2.0, 3.0])}
    _, state = transform.step(grads, transform.init(params), params)
    _, other = plain.step(grads, plain.init(params), params)
    saved = torchwise.to_state_dict(transform, state, params)
    expected = torchwise.to_state_dict(plain, other, params)
    assert saved["param_groups"] == expected["param_groups"]
    loaded, state = torchwise.from_state_dict(saved, params)
    again = torchwise.chain(torchwise.clip_grad_norm(1.0), loaded)
    moved, _ = again.step(grads, state, params)
    assert moved["w"].shape == (3,)


class Centred(torchwise.Block):
    """grad minus the mean of all gradients, which are numbers."""

    gathers = True

    def gather(self, grads):
        return sum(grads[1:], start=grads[0]) / len(grads)

    def direction(self, grad, state, param, n):
        assert n[0] is None
        return grad - n[1]


def test_a_block_of_ones_own_may_gather():
    params = [jnp.zeros(()), jnp.zeros(()), jnp.zeros(())]
    grads = [jnp.array(1.0), jnp.array(2.0), jnp.array(6.0)]
    transform = torchwise.chain(torchwise.scale(2.0), Centred(), torchwise.sgd(lr=0.5))
    moved, _ = jax.jit(transform.step)(grads, transform.init(params), params)
    np.testing.assert_allclose(moved, [2.0, 1.0, -3.0], rtol=1e-6)


# By value.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.5, 0.0, 1.001, math.inf])
def test_clipping_by_value_is_torchs(dtype, limit):
    if limit == math.inf and dtype == "float16":
        limit = 6e4
    grad = np.concatenate([drawn(8, dtype, [(1003,)])[0], np.array([0.0, -0.0, np.nan, np.inf])])
    grad = grad.astype(dtype)
    [param] = holders([grad])
    torch.nn.utils.clip_grad_value_([param], limit)
    for given in (limit, jnp.asarray(limit)):
        block = torchwise.clip_grad_value(given)
        ours, _ = jax.jit(block.update)(jnp.asarray(grad), block.init(grad), jnp.asarray(grad))
        assert same_numbers(ours, to_numpy(param.grad))


def test_a_complex_number_has_no_least_value():
    with pytest.raises(NotImplementedError) as theirs:
        torch.nn.utils.clip_grad_value_(holders([np.array([1j])]), 1.0)
    block = torchwise.clip_grad_value(1.0)
    with pytest.raises(NotImplementedError) as ours:
        block.update(jnp.array([1j]), block.init(jnp.array([1j])), jnp.array([1j]))
    assert str(ours.value) == str(theirs.value)
