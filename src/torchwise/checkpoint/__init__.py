"""Checkpoints of torch (`.pt`, `.pth`) and safetensors, read and written without torch."""

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.files import load, metadata, save
from torchwise.checkpoint.records import Name, Record, module_state_dict
from torchwise.checkpoint.tensors import MetaTensor, NestedTensor, QuantizedTensor, SparseTensor

__all__ = [
    "CheckpointError",
    "MetaTensor",
    "Name",
    "NestedTensor",
    "QuantizedTensor",
    "Record",
    "SparseTensor",
    "load",
    "metadata",
    "module_state_dict",
    "save",
]
