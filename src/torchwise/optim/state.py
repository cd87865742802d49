"""The state of an optimizer as users see it: torch's keys, parameter by parameter."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torchwise.optim.parameter import Parameter
from torchwise.optim.transaction import lock, refuse_traced, settle


class ParameterState(MutableMapping[str, Any]):
    """One parameter's arrays under torch's keys.

    Whoever reads an array may keep it, so that no step may donate it any more; a step makes new
    ones.

    Args:
        values: by key.
    """

    __slots__ = ("_foreign", "_owned", "_values")

    def __init__(self, values: Mapping[str, Any] = {}) -> None:
        self._values = dict(values)
        self._owned, self._foreign = False, True

    def __getitem__(self, key: str) -> Any:
        with lock:
            settle()
            self._owned = False
            return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        refuse_traced(value)
        with lock:
            settle()
            self._owned, self._foreign = False, True
            self._values[key] = value

    def __delitem__(self, key: str) -> None:
        with lock:
            settle()
            self._foreign = True
            del self._values[key]

    def __iter__(self) -> Iterator[str]:
        settle()
        return iter(self._values)

    def __len__(self) -> int:
        settle()
        return len(self._values)

    def __getstate__(self) -> dict[str, Any]:  # a copy shares the arrays
        return dict(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._values, self._owned, self._foreign = dict(state), False, True

    def __repr__(self) -> str:
        return repr(dict(self))

    # For the engine, which knows whether anybody else has the arrays.

    @property
    def own_values(self) -> dict[str, Any]:
        """The arrays, for reading within the library."""
        return self._values

    @property
    def owned(self) -> bool:
        """Whether a step made the arrays and nobody has been given one since."""
        return self._owned

    @property
    def foreign(self) -> bool:
        """Whether anything came from outside since the last step."""
        return self._foreign

    def replace(self, made: Mapping[str, Any]) -> None:
        """Take over arrays that a step has made."""
        self._values.update(made)
        self._owned, self._foreign = True, False


class State(defaultdict[Parameter, Any]):
    """The `ParameterState` of each parameter; an empty one where there is none, as in torch."""

    def __init__(self, factory: Any = ParameterState) -> None:  # copy and pickle pass it
        super().__init__(factory)

    def __setitem__(self, parameter: Parameter, values: Any) -> None:
        if not isinstance(values, ParameterState):
            if not isinstance(values, Mapping):
                raise TypeError(
                    f"optimizer.state[parameter] = {values!r}: pass a dict of arrays by torch's "
                    "names; del optimizer.state[parameter] starts the state anew"
                )
            values = ParameterState(values)
        super().__setitem__(parameter, values)
