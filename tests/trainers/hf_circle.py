"""HF Trainer, 20 steps in JAX, HF Trainer again; and how far that is from the Trainer alone.

Run `python tests/trainers/hf_circle.py` in an environment with the `trainers` extra. Nothing is
downloaded. For each optimizer and type it prints the distance after 40 steps of 10 + 20 + 10.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
from unittest import mock

import distances
import gpt2
import jax
import numpy as np
import torch
import transformers

from torchwise import checkpoint, optim

LAYERS, HEADS, LENGTH, BATCH, VOCABULARY = 2, 2, 8, 4, 64
STEPS, WARM_UP, BEFORE, MEANWHILE = 40, 4, 10, 20
# The Trainer's name, the class here, and the rate; the first is the Trainer's default.
OPTIMIZERS = {
    "adamw": ("adamw_torch_fused", optim.AdamW, 1e-3),
    "sgd": ("sgd", optim.SGD, 1e-2),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def tokens():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, VOCABULARY, (STEPS * BATCH, LENGTH), generator=generator)


class SGDTrainer(transformers.Trainer):
    """A Trainer whose "sgd" has momentum; its own has none and takes no options."""

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        cls, kwargs = transformers.Trainer.get_optimizer_cls_and_kwargs(args, model)
        return cls, kwargs | ({"momentum": 0.9} if cls is torch.optim.SGD else {})


def trainer(folder, name, dtype, attention="sdpa"):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=2 * LENGTH,
        n_embd=32,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    model = transformers.GPT2LMHeadModel(config).to(DTYPES[dtype])
    assert [name for name, _ in model.named_parameters()] == gpt2.parameter_names(LAYERS)
    optimizer, _, lr = OPTIMIZERS[name]
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        save_steps=BEFORE,
        learning_rate=lr,
        weight_decay=0.1,
        warmup_steps=WARM_UP,
        lr_scheduler_type="linear",
        optim=optimizer,
        train_sampling_strategy="sequential",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=0,
    )
    data = [{"input_ids": row, "labels": row} for row in tokens()]
    return SGDTrainer(model, arguments, train_dataset=data)


def results(finished):
    """Arrays of the model and of the optimizer by name, and the rates of the groups."""
    names = {p: name for name, p in finished.model.named_parameters()}
    arrays = {name: p.detach().numpy() for p, name in names.items()}
    optimizer = finished.optimizer.optimizer  # accelerate wraps it
    states = {
        f"{names[p]}.{key}": value.numpy()
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if key != "step" and value is not None
    }
    return arrays, states, [group["lr"] for group in optimizer.param_groups]


def meanwhile(source, target, name):
    """Take a checkpoint folder of the Trainer 20 steps further in JAX, and write it as one."""
    saved = checkpoint.load(source)
    names = gpt2.parameter_names(LAYERS)
    # The Trainer's rule: no weight decay for biases and layer norms.
    kept = [name for name in names if "bias" in name or ".ln_" in name]
    groups = [[name for name in names if name not in kept], kept]
    optimizer = OPTIMIZERS[name][1](
        [{"params": [(name, saved["model"][name]) for name in group]} for group in groups], lr=0.0
    )

    def rate(step):
        return min(step / WARM_UP, (STEPS - step) / (STEPS - WARM_UP))

    scheduler = optim.lr_scheduler.LambdaLR(optimizer, rate)
    # As in torch, a new scheduler writes the rate of its first step: load after it is made.
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])

    def loss(groups, batch):
        return gpt2.loss({**groups[0], **groups[1]}, batch, HEADS)

    batches = tokens().numpy().reshape(STEPS, BATCH, LENGTH)
    done = saved["trainer_state"]["global_step"]
    for batch in batches[done : done + MEANWHILE]:
        optimizer.train_step(loss, batch, max_grad_norm=1.0)  # the Trainer's default
        scheduler.step()

    shutil.copytree(source, target)  # the configuration, and the state of random numbers
    decayed, others = optimizer.params
    checkpoint.save(target / "model.safetensors", {**decayed, **others})
    checkpoint.save(target / "optimizer.pt", optimizer.state_dict())
    checkpoint.save(target / "scheduler.pt", scheduler.state_dict())
    state = saved["trainer_state"]
    state["epoch"] *= (done + MEANWHILE) / done
    state["global_step"] = done + MEANWHILE
    (target / "trainer_state.json").write_text(json.dumps(state, indent=2))


def as_float(tensor, *args, **kwargs):
    """Leave float64 as it is: transformers computes the loss of any model in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32, *args, **kwargs)


@mock.patch.object(torch.Tensor, "float", as_float)
def circle(folder, name, dtype):
    """Return how far parameters and state are off, and how far torch is with other attention."""
    alone = trainer(folder / "alone", name, dtype)
    alone.train()
    theirs = results(alone)
    back = folder / f"checkpoint-{BEFORE + MEANWHILE}"
    with jax.enable_x64(dtype == "float64"):
        meanwhile(folder / "alone" / f"checkpoint-{BEFORE}", back, name)
    resumed = trainer(folder / "resumed", name, dtype)
    resumed.train(resume_from_checkpoint=str(back))
    assert resumed.state.global_step == STEPS
    ours = results(resumed)
    assert np.allclose(ours[2], theirs[2], rtol=1e-12, atol=1e-15), (ours[2], theirs[2])
    other = trainer(folder / "other", name, dtype, "eager")
    other.train()
    floor = distances.relative(results(other)[0], theirs[0])
    return distances.relative(ours[0], theirs[0]), distances.relative(ours[1], theirs[1]), floor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    lines = []
    for name in options.optimizers:
        for dtype in options.dtypes:
            with tempfile.TemporaryDirectory() as folder:
                found = circle(pathlib.Path(folder), name, dtype)
            labels = ("parameters", "state", "torch, other attention")
            for label, (total, worst, where) in zip(labels, found):
                lines.append(f"{name} {dtype} {label}: {total:.1e}, worst {worst:.1e} ({where})")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
