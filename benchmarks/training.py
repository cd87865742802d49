"""Whole train steps: forward, backward and update, in each library as it is meant to be used."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import chains
import peers
from chains import Pure
from models import Model, Ops
from optimizers import Case
from peers import Stepper


def prepare(case: Case, model: Model) -> dict[str, Stepper]:
    """Return a stepper for each library: one compiled program in JAX, eager calls in torch."""
    ours, theirs = chains.torchwise_chains(case, False), chains.optax_chains(case)
    steppers = {name: _functional(pure, model) for name, pure in ours.items()}
    steppers[peers.STATEFUL] = _stateful(case, model)
    steppers |= {name: _functional(pure, model) for name, pure in theirs.items()}
    for name in peers.torch_implementations(case):
        steppers[name] = _torch(case, name, model)
    return steppers


def _functional(pure: Pure, model: Model) -> Stepper:
    loss = functools.partial(model.loss, _jax_ops())

    def train(params: Any, state: Any, inputs: Any, labels: Any) -> tuple[Any, Any, Any]:
        value, grads = jax.value_and_grad(loss)(params, inputs, labels)
        return *pure.step(grads, state, params), value

    params = jax.tree.map(jnp.array, model.params)
    held = [params, jax.jit(pure.init)(params)]
    batch = [jnp.asarray(model.inputs), jnp.asarray(model.labels)]
    program, duration, temporary = peers.compiled(train, *held, *batch)

    def step() -> float:
        *held[:], value = program(*held, *batch)
        jax.block_until_ready(held)
        return float(value)

    return Stepper(step, duration, temporary)


def _stateful(case: Case, model: Model) -> Stepper:
    optimizer = peers.stateful_optimizer(case, jax.tree.map(jnp.array, model.params))
    parameters = optimizer.param_groups[0]["params"]
    loss = functools.partial(model.loss, _jax_ops())
    batch = [jnp.asarray(model.inputs), jnp.asarray(model.labels)]

    def step() -> float:
        value = optimizer.train_step(loss, *batch)
        peers.wait_for(parameters)
        return float(value)

    return Stepper(step, peers.first_call(step), None)


def _torch(case: Case, name: str, model: Model) -> Stepper:
    import torch

    device = peers.torch_device()
    params = {
        key: torch.tensor(value, device=device, requires_grad=True)
        for key, value in model.params.items()
    }
    optimizer = peers.torch_optimizer(case, name, params.values())
    ops = _torch_ops()
    batch = [torch.tensor(part, device=device) for part in (model.inputs, model.labels)]

    def step() -> float:
        optimizer.zero_grad()
        value = model.loss(ops, params, *batch)
        value.backward()
        optimizer.step()
        peers.wait_for_torch()
        return value.item()

    return Stepper(step, None, None)


@functools.cache
def _jax_ops() -> Ops:
    def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
        return jax.nn.standardize(x, epsilon=1e-5) * weight + bias

    def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    attention = functools.partial(jax.nn.dot_product_attention, is_causal=True)
    return Ops(jax.nn.gelu, layer_norm, attention, cross_entropy)


@functools.cache
def _torch_ops() -> Ops:
    from torch.nn import functional

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def attention(*qkv: Any) -> Any:
        heads_first = [part.transpose(1, 2) for part in qkv]
        mixed = functional.scaled_dot_product_attention(*heads_first, is_causal=True)
        return mixed.transpose(1, 2)

    gelu = functools.partial(functional.gelu, approximate="tanh")
    return Ops(gelu, layer_norm, attention, functional.cross_entropy)
