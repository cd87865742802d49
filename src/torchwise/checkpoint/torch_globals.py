"""The names that a file may mention, each bound to a function or value of our own."""

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # tables of strings
from collections.abc import Mapping
from typing import Any

from torchwise.checkpoint.budget import Budget
from torchwise.checkpoint.constructors import constructors
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.limits import MAX_NAME
from torchwise.checkpoint.numpy_values import NUMPY_GLOBALS
from torchwise.checkpoint.other_tensors import other_tensors
from torchwise.checkpoint.plain_globals import PLAIN_GLOBALS
from torchwise.checkpoint.records import Name
from torchwise.checkpoint.storages import STORAGE_TYPES
from torchwise.checkpoint.torch_tensors import DTYPES, dense_tensors

_MAX_NAMES = 100_000


class Globals:
    """Resolves the names of one file; nothing is imported whatever the file says.

    Args:
        budget: of the file.

    Attributes:
        unknown: what is not in the table, by full name: each is a `Name`.
    """

    def __init__(self, budget: Budget) -> None:
        functions = {**dense_tensors(budget), **other_tensors(budget)}
        self._known = {**_GLOBALS, **constructors(functions)}
        self.unknown: dict[str, Name] = {}

    def find(self, module: str, name: str) -> Any:
        """Return what stands for a class or function."""
        # Protocol 2 has the names of Python 2, as `__builtin__.long` for `builtins.int`.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"
        if full_name in self._known:
            return self._known[full_name]
        if full_name not in self.unknown:
            if len(self.unknown) >= _MAX_NAMES:
                raise CheckpointError(f"names more than {_MAX_NAMES} classes and functions")
            self.unknown[full_name] = _name(module, name)
        return self.unknown[full_name]


def _name(module: str, name: str) -> Name:
    words = f"{module}.{name}".split(".")
    if len(module) + len(name) > MAX_NAME or not all(word.isidentifier() for word in words):
        raise CheckpointError("names a class or function by what is no name")
    return Name(module, name)


def _size(sizes: Any) -> tuple[int, ...]:
    if type(sizes) is not tuple or any(type(size) is not int for size in sizes):
        raise CheckpointError("has a torch.Size that is not made of integers")
    return sizes


def _device(kind: Any, index: Any = None) -> str:
    """Give the device the text that torch prints for it, e.g. `cuda:0`."""
    # The bound on the name keeps one long string from being copied by many short calls.
    if type(kind) is not str or len(kind) > 64 or type(index) not in (int, type(None)):
        raise CheckpointError("has a torch.device that is not a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _layout(name: Any) -> str:
    if type(name) is not str or not name.startswith("torch."):
        raise CheckpointError("has a torch.layout that is not a name")
    return name


_WORDS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
    *("qint8", "qint32", "quint8", "quint4x2", "quint2x4"),
    *("per_tensor_affine", "per_tensor_symmetric"),
    *("per_channel_affine", "per_channel_symmetric", "per_channel_affine_float_qparams"),
)

_GLOBALS: Mapping[str, Any] = {
    **PLAIN_GLOBALS,
    **NUMPY_GLOBALS,
    **constructors(
        {
            "torch.Size": _size,
            "torch.device": _device,
            "torch.serialization._get_layout": _layout,
        }
    ),
    **{
        f"{module}.{name}": Name(module, name)
        for module, name in (
            ("torch", "Tensor"),
            ("torch.nn.parameter", "Parameter"),
            ("torch.nn.parameter", "Buffer"),
            ("torch.nested._internal.nested_tensor", "NestedTensor"),
            ("torch._dynamo.decorators", "_DimRange"),  # in the attributes of such a tensor
        )
    },
    **STORAGE_TYPES,
    **{name: name for name in (*DTYPES, *(f"torch.{word}" for word in _WORDS))},
}
