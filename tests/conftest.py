"""One CPU, strict promotion: an accidental float64 or float32 is an error here."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest
import torch

jax.config.update("jax_numpy_dtype_promotion", "strict")
torch.set_num_threads(1)  # small tensors: threads only cost time here
# On a CI machine the same examples every time; elsewhere new ones, printed when they fail.
hypothesis.settings.register_profile(
    "torchwise", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("torchwise")


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """The type of the parameters; with float64, JAX's 64-bit types are on."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
