"""Hyperparameters as fields: declaring them makes a frozen dataclass and a pytree."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Self, cast, dataclass_transform

import jax
import numpy as np

from torchwise.numbers import is_array

_TERM = "term"


def term(*, default: Any = dataclasses.MISSING) -> Any:
    """A hyperparameter whose term is left out of the program where it is the number zero.

    An array is data, also when it happens to be zero: it may be another number at the next call.
    """
    return dataclasses.field(default=default, metadata={_TERM: True})


def _structure(fields: "Fields") -> dict[str, Any]:
    """Return the fields that are structure; decided once, by the values given at first."""
    found = vars(fields).get("_structure")
    if found is None:
        found = {
            name: getattr(fields, name)
            for name, is_static, is_term in _declared(type(fields))
            if is_static or _is_structure(getattr(fields, name), is_term)
        }
        vars(fields)["_structure"] = found
    return found


def _is_structure(value: Any, is_term: bool) -> bool:
    if type(value) is float:  # most are, and a stateful step asks for all of them
        return is_term and value == 0
    if isinstance(value, bool | str) or value is None:
        return True
    if is_term and not is_array(value) and isinstance(value, int | float | np.floating):
        return value == 0
    return callable(value) and jax.tree_util.all_leaves([value])


def _flatten(fields: "Fields") -> tuple[tuple[Any, ...], Any]:
    fixed = _structure(fields)
    names = [name for name in _field_names(type(fields)) if name not in fixed]
    # With the class: JAX takes dataclasses with fields alike for one structure.
    return tuple(getattr(fields, name) for name in names), (type(fields), tuple(fixed.items()))


def _flatten_with_keys(fields: "Fields") -> tuple[tuple[tuple[Any, Any], ...], Any]:
    children, structure = _flatten(fields)
    fixed = dict(structure[1])
    names = (name for name in _field_names(type(fields)) if name not in fixed)
    keys = map(jax.tree_util.GetAttrKey, names)
    return tuple(zip(keys, children)), structure


def _unflatten(cls: type["Fields"], structure: Any, children: Sequence[Any]) -> "Fields":
    fixed = dict(structure[1])
    fields = object.__new__(cls)
    names = (name for name in _field_names(cls) if name not in fixed)
    vars(fields).update(zip(names, children), _structure=fixed, **fixed)
    return fields


@functools.cache
def fields_of(cls: type["Fields"]) -> tuple[Any, ...]:
    """Return the fields of a class, looked up once: a stateful step asks for them."""
    return dataclasses.fields(cast(Any, cls))


@functools.cache
def _declared(cls: type["Fields"]) -> tuple[tuple[str, bool, bool], ...]:
    """Return the name of each field, whether it is static, and whether it is a term."""
    return tuple(
        (field.name, bool(field.metadata.get("static")), _TERM in field.metadata)
        for field in fields_of(cls)
    )


@functools.cache
def _field_names(cls: type["Fields"]) -> tuple[str, ...]:
    return tuple(field.name for field in fields_of(cls))


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, term))
class Fields(abc.ABC):  # noqa: B024 (the classes below it have abstract methods)
    """The base of what has hyperparameters.

    A subclass is a frozen dataclass and a pytree: it declares its hyperparameters as annotated
    fields. Numbers, arrays and nested pytrees are data; booleans, None, strings, functions and the
    zeros of a `term` are structure, and fields with the metadata `{"static": True}`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True)(cls)
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, cast(Any, functools.partial(_unflatten, cls)), _flatten
        )

    def has(self, name: str) -> bool:
        """Whether a `term` is part of the program."""
        fixed = _structure(self)
        return name not in fixed or callable(fixed[name])

    def replaced(self, **fields: Any) -> Self:
        """Return a copy with other data in these fields, and with the same structure."""
        fixed = _structure(self)
        if not fixed.keys().isdisjoint(fields):
            fixed = {name: value for name, value in fixed.items() if name not in fields}
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        vars(copy).update(fields, _structure=fixed)
        return copy
