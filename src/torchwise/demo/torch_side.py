"""The same training in torch. The only file that imports torch."""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from torchwise.demo.jax_side import move
from torchwise.demo.network import SIZES, Params, ParamsOnHost

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}


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
        """Return a copy of the parameters."""
        return {name: value.numpy().copy() for name, value in self._model.state_dict().items()}

    @torch.no_grad()
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the most likely digit of each image."""
        return self._model(torch.from_numpy(images)).argmax(dim=1).numpy()


class _Transplanted:
    """A torchwise transform at the place of torch's optimizer: it moves torch's parameters."""

    def __init__(self, model: torch.nn.Module, transform: optax.GradientTransformation) -> None:
        self._named = dict(model.named_parameters())
        self._state = transform.init(_to_jax(self._named))
        self._move = jax.jit(functools.partial(move, transform))

    @torch.no_grad()
    def step(self) -> None:
        """Carry gradients and parameters to JAX, and the new parameters back."""
        grads = {name: param.grad for name, param in self._named.items()}
        params, self._state = self._move(_to_jax(grads), self._state, _to_jax(self._named))
        for name, param in self._named.items():
            param.copy_(torch.from_numpy(np.array(params[name])))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch on one thread: as fast for a network this small, and steady on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def trainer(name: str, hyperparameters: dict[str, Any], params: ParamsOnHost) -> TorchTrainer:
    """Return torch's network with torch's optimizer."""
    model = _model(params)
    return TorchTrainer(model, _OPTIMIZERS[name](model.parameters(), **hyperparameters))


def transplanted(transform: optax.GradientTransformation, params: ParamsOnHost) -> TorchTrainer:
    """Return torch's network with a torchwise transform: the gradients are torch's."""
    model = _model(params)
    return TorchTrainer(model, _Transplanted(model, transform))


def _model(params: ParamsOnHost) -> torch.nn.Module:
    """Return the network of `network.py` with the given parameters."""
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
