"""Training goes on across a checkpoint: from torch to a process without torch, and back."""

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from state_dict_tools import assert_same_dict, step_torch, tensors_of

import torchwise
from cases import FULL
from distance import ulps
from functional_run import FunctionalRun, draw
from rounds import FIRST, each
from torch_oracle import correctly_rounded_sqrt, counted_misrounded_roots, to_numpy
from torchwise import checkpoint

SHAPES = [(1003,), (7, 9), (3, 1, 5), ()]
NAMES = ["net.weight", "net.bias", "head.weight", "head.bias"]
STEPS = 50
PROGRAM = Path(__file__).parent / "programs" / "go_on.py"


@functools.cache
def gradients(seed):
    rng = np.random.default_rng(seed)
    return [draw(rng, SHAPES, "float32") for _ in range(STEPS)]


def torch_run(case):
    tensors = tensors_of(draw(np.random.default_rng(11), SHAPES, "float32"))
    return tensors, case.optimizer.theirs(tensors, **case.hyperparameters)


def run(optimizer, tensors, steps):
    """Let torch step; return the largest magnitude that each element has had."""
    reach = [np.abs(to_numpy(tensor)) for tensor in tensors]
    for grads in steps:
        step_torch(optimizer, tensors, grads)
        reach = [np.maximum(old, np.abs(to_numpy(t))) for old, t in zip(reach, tensors)]
    return reach


def whole(optimizer, tensors):
    return {"model": dict(zip(NAMES, tensors)), "optimizer": optimizer.state_dict()}


def folder_of(root, case):
    return root / str(FULL.index(case))


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """50 steps of torch, saved; 50 more in a process without torch, in both ways, saved again."""
    root = tmp_path_factory.mktemp("resuming")
    for case in FULL:
        folder = folder_of(root, case)
        folder.mkdir()
        tensors, optimizer = torch_run(case)
        with correctly_rounded_sqrt():
            run(optimizer, tensors, gradients(12))
        torch.save(whole(optimizer, tensors), folder / "torch.pt")
        (folder / "optimizer.json").write_text(json.dumps(case.optimizer.stateful))
    np.savez(root / "gradients.npz", *itertools.chain(*gradients(13)))
    command = [sys.executable, str(PROGRAM), str(root)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["went", "on", str(STEPS)]
    return root


@pytest.mark.slow
@pytest.mark.parametrize("way", ["functional", "stateful"])
@pytest.mark.parametrize("case", FULL, ids=[case.name for case in FULL])
def test_a_process_without_torch_goes_on_as_torch_would_and_torch_after_it(continued, case, way):
    """Equal to the bit where torch's roots are correctly rounded."""
    alone, uninterrupted = torch_run(case)
    with correctly_rounded_sqrt():
        run(uninterrupted, alone, gradients(12) + gradients(13))
    saved = torch.load(folder_of(continued, case) / f"{way}.pt", weights_only=True)
    assert_same_dict(saved, whole(uninterrupted, alone))

    tensors, optimizer = torch_run(case)
    resume(optimizer, tensors, saved)
    with correctly_rounded_sqrt():
        run(uninterrupted, alone, gradients(14))
        run(optimizer, tensors, gradients(14))
    assert_same_dict(whole(optimizer, tensors), whole(uninterrupted, alone))


def resume(optimizer, tensors, saved):
    with torch.no_grad():
        for tensor, value in zip(tensors, saved["model"].values(), strict=True):
            tensor.copy_(value)
    optimizer.load_state_dict(saved["optimizer"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["functional", "stateful"])
@pytest.mark.parametrize("case", each(case for case in FULL if case.optimizer.drift is not None))
def test_it_goes_on_within_the_error_of_torchs_own_roots(continued, case, way):
    """`drift` ulp of the largest value for each root that torch misses, states included."""
    tensors, optimizer = torch_run(case)
    with correctly_rounded_sqrt():
        run(optimizer, tensors, gradients(12))
    misrounded = [np.zeros(shape, int) for shape in SHAPES]
    with counted_misrounded_roots(misrounded):
        reach = run(optimizer, tensors, gradients(13))
    ours = torch.load(folder_of(continued, case) / f"{way}.pt", weights_only=True)
    for index, tensor in enumerate(tensors):
        allowed = case.optimizer.drift * misrounded[index]
        mine = to_numpy(ours["model"][NAMES[index]])
        assert np.all(ulps(mine, to_numpy(tensor), reach[index]) <= allowed)
        for key, value in optimizer.state[tensor].items():
            held = ours["optimizer"]["state"][index][key]
            assert np.all(ulps(to_numpy(held), to_numpy(value)) <= allowed), key


@pytest.mark.parametrize("case", each(FULL, FIRST[:1]))
def test_torch_goes_on_from_what_was_trained_here(case, tmp_path):
    start = draw(np.random.default_rng(11), SHAPES, "float32")
    ours = FunctionalRun(case.transform, start)
    for grads in gradients(12):
        ours.step(grads)
    written = torchwise.to_state_dict(case.transform, ours.state, ours.params)
    saved = {"model": dict(zip(NAMES, ours.params)), "optimizer": written}
    checkpoint.save(tmp_path / "ours.pt", saved)

    read = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert all(
        isinstance(value, torch.Tensor)
        for entry in read["optimizer"]["state"].values()
        for value in entry.values()
    )
    tensors, optimizer = torch_run(case)
    resume(optimizer, tensors, read)
    alone, uninterrupted = torch_run(case)
    with correctly_rounded_sqrt():
        run(optimizer, tensors, gradients(13))
        run(uninterrupted, alone, gradients(12) + gradients(13))
    assert_same_dict(whole(optimizer, tensors), whole(uninterrupted, alone))


def test_what_has_no_gradient_yet_starts_undamped_in_torch(tmp_path):
    transform = torchwise.chain(torchwise.sgd(0.1, 0.9, 0.3), per_parameter_steps=True)
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = transform.init(params)
    _, state = transform.update({"a": jnp.ones(2), "b": None}, state, params)
    checkpoint.save(tmp_path / "a.pt", torchwise.to_state_dict(transform, state, params))
    tensors = tensors_of([np.ones(2, np.float32), np.ones(3, np.float32)])
    optimizer = torch.optim.SGD(tensors)
    optimizer.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    step_torch(optimizer, tensors, [np.ones(2, np.float32), np.ones(3, np.float32)])
    np.testing.assert_array_equal(to_numpy(tensors[1]), np.full(3, 0.9, np.float32))
    expected = np.float32(1) - np.float32(0.1) * np.float32(1.6)
    np.testing.assert_allclose(to_numpy(tensors[0]), expected, rtol=1e-6)
