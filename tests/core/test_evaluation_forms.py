"""The forms of evaluation give the same bits; with several outputs fused, still no temporaries."""

import json
import os
import subprocess
import sys

PROGRAM = """
import hashlib, json
import jax, jax.numpy as jnp, numpy as np, optax
import torchwise

rng = np.random.default_rng(0)
shapes = [(1003,), (16, 33), ()]
draw = lambda: [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
digests, temporaries = {}, {}
for name, transform in {
    "nesterov": torchwise.sgd(0.1, 0.9, weight_decay=0.01, nesterov=True),
    "dampening": torchwise.sgd(0.1, 0.9, 0.3, 0.01, maximize=True),
    "adagrad": torchwise.adagrad(0.1, 0.01, 0.01),
    "dragon": torchwise.dragon.sgd(0.1, 0.9, weight_decay=0.01, nesterov=True),
}.items():
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    params = draw()
    state = transform.init(params)
    for _ in range(5):
        params, state = jitted(params, state, draw())
    arrays = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((params, state))]
    digests[name] = hashlib.sha256(b"".join(arrays)).hexdigest()
    large = [jax.ShapeDtypeStruct((1_000_000,), jnp.float32)] * 3
    memory = jitted.lower(large, jax.eval_shape(transform.init, large), large).compile()
    temporaries[name] = memory.memory_analysis().temp_size_in_bytes / 12e6
print(json.dumps([digests, temporaries]))
"""


def run(flags):
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_same_bits_and_no_temporaries_with_the_users_flag():
    digests, temporaries = run("")
    flag = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"
    with_flag, temporaries_with_flag = run(flag)
    assert digests == with_flag
    assert max(temporaries.values()) < 0.01
    assert max(temporaries_with_flag.values()) < 0.01
