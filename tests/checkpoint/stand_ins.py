"""Classes of packages that are not installed here, under their names and in their shapes.

A file names a class by its module: so each stand-in is put where pickle looks for the real one.
"""

import contextlib
import dataclasses
import enum
import sys
import types
from collections import deque

import numpy as np


class Metadata:
    """As in omegaconf: what a node knows of itself."""

    def __init__(self, kind):
        self.ref_type, self.object_type, self.optional = kind, kind, True


class AnyNode:
    """A leaf of omegaconf, which knows its parent, and so makes a circle."""

    def __init__(self, value, parent):
        self.__dict__.update(_val=value, _parent=parent, _metadata=Metadata(object))


class DictConfig:
    """A dict of omegaconf: its state is its `__dict__`, with nodes inside."""

    def __init__(self, content, parent=None):
        nodes = {
            key: DictConfig(value, self) if isinstance(value, dict) else AnyNode(value, self)
            for key, value in content.items()
        }
        self.__dict__.update(_content=nodes, _parent=parent, _metadata=Metadata(dict))

    def __getstate__(self):
        return dict(self.__dict__)

    def __setstate__(self, state):
        self.__dict__.update(state)


class HistoryBuffer:
    """As in mmengine: arrays of numpy, and a dict of methods."""

    def __init__(self):
        self.max_length = 1000
        self._log_history = np.array([0.5, 0.25])
        self._count_history = np.array([1, 1])
        self._statistics_methods = {"mean": HistoryBuffer.mean}

    @classmethod
    def mean(cls):
        """Never called."""
        raise AssertionError


class IntervalStrategy(enum.StrEnum):
    """As in transformers."""

    STEPS = "steps"


@dataclasses.dataclass
class TrainingArguments:
    """As in transformers."""

    output_dir: str = "out"
    learning_rate: float = 5e-5
    eval_strategy: IntervalStrategy = IntervalStrategy.STEPS


class LossScaler:
    """As in DeepSpeed."""

    def __init__(self):
        self.cur_scale, self.dynamic = 1.0, False


class ZeroStageEnum(int, enum.Enum):
    """As in DeepSpeed."""

    weights = 3


class L:
    """As in fastcore: slots and a list."""

    __slots__ = ("items",)

    def __init__(self, items):
        self.items = items


PLACES = {
    "omegaconf.dictconfig": (DictConfig,),
    "omegaconf.nodes": (AnyNode,),
    "omegaconf.base": (Metadata,),
    "mmengine.logging.history_buffer": (HistoryBuffer,),
    "transformers.training_args": (TrainingArguments,),
    "transformers.trainer_utils": (IntervalStrategy,),
    "deepspeed.runtime.fp16.loss_scaler": (LossScaler,),
    "deepspeed.runtime.zero.config": (ZeroStageEnum,),
    "fastcore.foundation": (L,),
}


@contextlib.contextmanager
def in_place():
    """Let pickle find the stand-ins under the names of the real classes."""
    parents = {".".join(module.split(".")[:n]) for module in PLACES for n in range(1, 5)}
    assert not parents & sys.modules.keys()
    sys.modules.update({module: types.ModuleType(module) for module in parents})
    for module, classes in PLACES.items():
        for one in classes:
            one.__module__ = module
            setattr(sys.modules[module], one.__name__, one)
    try:
        yield
    finally:
        for module in parents:
            del sys.modules[module]


def objects():
    """Objects of foreign packages, by the trainer whose files hold them."""
    return {
        "omegaconf": DictConfig({"lr": 0.1, "model": {"depth": 3}}),
        "mmengine": {"loss": HistoryBuffer(), "recent": deque([1.0], maxlen=20)},
        "training_args": TrainingArguments(),
        "deepspeed": {"loss_scaler": LossScaler(), "zero_stage": ZeroStageEnum.weights},
        "fastai": {"hypers": L([{"lr": 0.1}])},
    }
