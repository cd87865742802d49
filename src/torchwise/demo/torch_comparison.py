"""The same training in torch. The only file that imports torch."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import torch

from torchwise.demo.training import HYPERPARAMETERS, SIZES, TRANSFORMS, Params, ParamsOnHost


class _Optimizer(Protocol):
    """What torch's optimizers and `_Transplanted` have in common."""

    def step(self) -> object:
        """Move the parameters along their gradients."""
        ...


class TorchTrainer:
    """A `torch.nn.Sequential` and an optimizer for it, on the CPU."""

    def __init__(self, model: torch.nn.Module, optimizer: _Optimizer) -> None:
        self._model = model
        self._optimizer = optimizer

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        """Take one step, as torch's tutorials write it."""
        self._model.zero_grad()
        scores = self._model(torch.from_numpy(images))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def params(self) -> ParamsOnHost:
        return {name: value.numpy().copy() for name, value in self._model.state_dict().items()}


class _Transplanted:
    """A torchwise transform at the place of torch's optimizer: it moves torch's parameters."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        transform = TRANSFORMS[name]
        self._named = dict(model.named_parameters())
        self._state = transform.init(_to_jax(self._named))
        self._move = jax.jit(transform.step)

    @torch.no_grad()
    def step(self) -> None:
        """Carry gradients and parameters to JAX, and the new parameters back."""
        grads = {name: param.grad for name, param in self._named.items()}
        params, self._state = self._move(_to_jax(grads), self._state, _to_jax(self._named))
        for name, param in self._named.items():
            param.copy_(torch.from_numpy(np.array(params[name])))


@contextlib.contextmanager
def comparable() -> Iterator[None]:
    """Keep JAX on the CPU, and torch on one thread of it.

    One thread is as fast for a network this small, and steady on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with jax.default_device("cpu"):
            yield
    finally:
        torch.set_num_threads(threads)


def trainer(name: str, params: ParamsOnHost) -> TorchTrainer:
    """Return torch's network with torch's optimizer."""
    model = _model(params)
    optimizer = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[name]
    return TorchTrainer(model, optimizer(model.parameters(), **HYPERPARAMETERS[name]))


def transplanted(name: str, params: ParamsOnHost) -> TorchTrainer:
    """Return torch's network with a torchwise transform: the gradients are torch's."""
    model = _model(params)
    return TorchTrainer(model, _Transplanted(model, name))


def _model(params: ParamsOnHost) -> torch.nn.Module:
    """Return the network of `training.py` with the given parameters."""
    layers: OrderedDict[str, torch.nn.Module] = OrderedDict(
        hidden=torch.nn.Linear(*SIZES["hidden"]),
        tanh=torch.nn.Tanh(),
        output=torch.nn.Linear(*SIZES["output"]),
    )
    model = torch.nn.Sequential(layers)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model


def _to_jax(tensors: Mapping[str, Any]) -> Params:
    """Return copies."""
    return {name: jnp.array(tensor.detach().numpy()) for name, tensor in tensors.items()}
