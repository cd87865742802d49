"""Two processes train the demo's network on halves of each batch, over loopback."""

import socket

import jax
import numpy as np
import pytest
from torchwise.demo.jax_side import JaxTrainer

from devices import launch
from torchwise.demo import data, experiment, network

EPOCHS = 3
PROCESSES = 2


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_alone(recipe):
    optimizer, hyperparameters = experiment.RECIPES[recipe]
    trainer = JaxTrainer(optimizer(**hyperparameters), network.initialize(0))
    with jax.numpy_dtype_promotion("standard"):
        for batches in data.epochs_of_batches(data.load().train, EPOCHS, 0):
            for batch in batches:
                trainer.step(*batch)
    return trainer.params()


@pytest.mark.parametrize("recipe", experiment.RECIPES)
def test_two_processes_end_where_one_does(recipe, tmp_path):
    address, path = f"127.0.0.1:{free_port()}", tmp_path / "params.npz"
    processes = [
        launch.start("one_of_processes.py", 1, address, PROCESSES, index, recipe, EPOCHS, path)
        for index in range(PROCESSES)
    ]
    for facts in launch.facts(*processes):
        assert facts == {"processes": 2, "devices": 2, "state everywhere": True}
    alone, together = train_alone(recipe), np.load(path)
    assert sorted(alone) == sorted(together)
    for name in alone:
        moved = np.abs(alone[name] - network.initialize(0)[name]).max()
        difference = np.abs(alone[name] - together[name]).max()
        assert moved > 0.01
        # sums over a batch are rounded in two halves: 1.2e-7 (sgd) and 2.6e-7 (adagrad) measured
        assert difference < 1e-6
