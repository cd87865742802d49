"""What stands in a loaded value for the objects of classes that are not known here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_SHOWN = 4


@dataclass(frozen=True, repr=False)
class Name:
    """A class or function that a file names; nothing is imported.

    Attributes:
        module: where Python would look for it.
        qualname: what it is called there.

    Examples:
        >>> from torchwise.checkpoint import Name
        >>> str(Name("torch.optim.sgd", "SGD"))
        'torch.optim.sgd.SGD'
    """

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"

    def __repr__(self) -> str:
        return f"Name({str(self)!r})"


@dataclass(eq=False, repr=False, slots=True)
class Record:
    """An object of a class that is not known: what the file says of it, and no behaviour.

    The fields are those of a pickle. An object's own attributes are in `attributes` and not
    attributes of the record, since they may have the same names. A record equals itself alone.

    Attributes:
        function: the class, or the function that would make the object; a record, if what one call
            returns is called again.
        arguments: of the call.
        how: whether the function would be `"called"`; the class made `"new"`, without its
            `__init__`; or, for a tensor of a subclass, the tensor in `arguments` `"viewed"`.
        state: what the object would be given then, mostly a dict of attributes; None if nothing.
        items: what would be appended, as to a list.
        entries: what would be set by key, as in a dict.
        of_numpy: the arrays of the file that are numpy's and not torch's, by identity: in a record,
            `save` writes an array as what it was.

    Examples:
        >>> from torchwise.checkpoint import Name, Record
        >>> args = Record(Name("argparse", "Namespace"), (), "new", state={"lr": 0.1, "seed": 3})
        >>> args
        <Record argparse.Namespace: lr, seed>
        >>> args.attributes["lr"]
        0.1
    """

    function: "Name | Record"
    arguments: tuple[Any, ...] = ()
    how: Literal["called", "new", "viewed"] = "called"
    state: Any = None
    items: list[Any] | None = None
    entries: dict[Any, Any] | None = None
    of_numpy: dict[int, np.ndarray] | None = None

    @property
    def name(self) -> str:
        """The name of the class, e.g. `argparse.Namespace`."""
        function = self.function
        while isinstance(function, Record):
            function = function.function
        return str(function)

    @property
    def attributes(self) -> dict[Any, Any]:
        """The object's attributes by name, those in slots too; empty where its state is none."""
        pair = isinstance(self.state, tuple) and len(self.state) == 2
        parts: Any = self.state if pair else (self.state,)
        if not all(type(part) in (dict, type(None)) for part in parts):
            return {}
        return {key: value for part in parts if part for key, value in part.items()}

    def __repr__(self) -> str:
        shown = [str(key)[:40] for key, _ in zip(self.attributes, range(_SHOWN + 1))]
        if len(shown) > _SHOWN:
            shown[_SHOWN:] = ["..."]
        return f"<Record {self.name[:80]}{': ' * bool(shown)}{', '.join(shown)}>"

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields that hold something, by their names."""
        if isinstance(self.function, Record):
            yield "function", self.function
        for key in ("arguments", "state", "items", "entries"):
            value = getattr(self, key)
            if value is not None and (key == "state" or len(value)):
                yield key, value


_TENSOR = Name("torch", "Tensor")


def tensor_key(array: np.ndarray) -> Record:
    """Return what stands for a tensor as the key of a dict: torch knows those by their identity."""
    return Record(_TENSOR, (array,), "viewed")


def is_tensor_key(value: Any) -> bool:
    """Whether a value came from `tensor_key`."""
    return type(value) is Record and value.function is _TENSOR


def is_module(value: Any) -> bool:
    """Whether a value is the record of a whole `torch.nn.Module`."""
    if type(value) is not Record:
        return False
    attributes = value.attributes
    return all(isinstance(attributes.get(key), dict) for key in _MODULE)


_MODULE = ("_parameters", "_buffers", "_modules")


def module_state_dict(module: Record) -> dict[str, Any]:
    """Return the state dict of a module that was saved whole, by `torch.save(module, path)`.

    It has the names and the order of torch's `module.state_dict()`: parameters, then persistent
    buffers, then those of the modules inside.

    Args:
        module: from `load(path, records=True)`.

    Raises:
        TypeError: the record is not one of a module.

    Examples:
        >>> from torchwise.checkpoint import Name, Record, module_state_dict
        >>> parts = {"_parameters": {"weight": 1.0, "bias": None}, "_buffers": {}, "_modules": {}}
        >>> linear = Record(Name("torch.nn", "Linear"), how="new", state=parts)
        >>> parts = {"_parameters": {}, "_buffers": {}, "_modules": {"0": linear}}
        >>> module_state_dict(Record(Name("torch.nn", "Sequential"), how="new", state=parts))
        {'0.weight': 1.0}
    """
    state: dict[str, Any] = {}
    _collect_state(module, "", (), state)
    return state


def _collect_state(
    module: Any, prefix: str, outer: tuple[Record, ...], state: dict[str, Any]
) -> None:
    if not is_module(module) or any(module is one for one in outer):
        raise TypeError(f"{prefix[:80] or 'the value'} is no record of a torch.nn.Module")
    own: Mapping[str, Any] = module.attributes
    hidden = own.get("_non_persistent_buffers_set") or ()
    persistent = {key: x for key, x in own["_buffers"].items() if key not in hidden}
    for key, value in (*own["_parameters"].items(), *persistent.items()):
        if value is not None:
            state[f"{prefix}{key}"] = value
    for key, inner in own["_modules"].items():
        if inner is not None:
            _collect_state(inner, f"{prefix}{key}.", (*outer, module), state)
