"""Write the small checkpoints of DeepSpeed that the tests read, stages 0 to 3 of two processes.

Run `DS_ACCELERATOR=cpu python tests/trainers/make_deepspeed.py` in an environment that was made by
`DS_BUILD_OPS=0 pip install torch==2.13.0 numpy safetensors deepspeed==0.19.8`.
`truth.safetensors` beside them has what the processes themselves had in memory: the weights in fp32
and the states of the optimizer, gathered by DeepSpeed's own functions.
"""

import os
import pathlib
import shutil
import tempfile

import deepspeed
import safetensors.torch
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

TARGET = pathlib.Path(__file__).parents[1] / "checkpoint" / "data" / "trainers"
PROCESSES = 2


class Net(torch.nn.Module):
    """Sizes that two processes cannot divide evenly, a buffer, a frozen and a tied parameter."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 5)
        self.norm = torch.nn.LayerNorm(5)
        self.register_buffer("seen", torch.tensor(7))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 5))
        self.frozen = torch.nn.Linear(5, 5, bias=False)
        self.out = torch.nn.Linear(5, 3, bias=False)
        self.tied = torch.nn.Linear(5, 3, bias=False)
        self.tied.weight = self.out.weight
        self.frozen.weight.requires_grad_(False)

    def forward(self, x):
        hidden = self.frozen(self.norm(self.inner(x)) * self.scale.to(x.dtype))
        return self.out(hidden) + self.tied(hidden)


def config(stage):
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, "contiguous_gradients": False}
    return {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": stage > 0},
    }


def train(rank, folder, stage):
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(29560 + stage),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(PROCESSES),
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    deepspeed.init_distributed("gloo")
    model = Net()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config(stage))
    torch.manual_seed(1 + rank)
    for _ in range(3):
        x = torch.randn(4, 3).to(torch.bfloat16 if stage else torch.float32)
        engine.backward(engine(x).float().square().sum())
        engine.step()
    if stage in (1, 2):  # DeepSpeed 0.19.8 links the states after the step of the first group
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    truth = {}
    for name, p in named if stage else ():
        truth[f"fp32.{name}"] = safe_get_full_fp32_param(p)
        for key in ("exp_avg", "exp_avg_sq"):
            truth[f"{key}.{name}"] = safe_get_full_optimizer_state(p, key)
    engine.save_checkpoint(folder, client_state={"epoch": 3})
    if rank == 0 and stage:
        merged = get_fp32_state_dict_from_zero_checkpoint(folder)
        truth |= {f"model.{name}": value.clone() for name, value in merged.items()}
        truth = {name: value.cpu().clone() for name, value in truth.items()}
        safetensors.torch.save_file(truth, os.path.join(folder, "truth.safetensors"))
    dist.destroy_process_group()


def main():
    for stage in (0, 1, 2, 3):
        target = TARGET / f"deepspeed{stage}"
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(train, (folder, stage), nprocs=PROCESSES)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns("zero_to_*.py"))


if __name__ == "__main__":
    main()
