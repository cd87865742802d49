"""What is inside of a record, or of a tensor that is no array, by name."""

import dataclasses
from typing import Any

from torchwise.checkpoint.records import Record, is_module, module_state_dict
from torchwise.checkpoint.tensors import OTHER_TENSORS


def inside(value: Any) -> dict[Any, Any]:
    """Return the named parts of a value; empty where it has none to speak of.

    Of a whole module it is the state dict, of another record the attributes and what else it holds,
    of a sparse, quantized or nested tensor the fields.
    """
    if isinstance(value, OTHER_TENSORS):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, Record):
        return {}
    if is_module(value):
        try:
            return module_state_dict(value)
        except TypeError:  # not all that is inside of it is a module
            pass
    parts = dict(value.parts())
    if value.attributes:
        parts.pop("state")
    return {**parts, **value.attributes}
