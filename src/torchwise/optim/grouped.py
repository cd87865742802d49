"""Parameters in groups: as they were passed, chosen by their names, or added later."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from torchwise.groups.selection import MATCH, Groups
from torchwise.hyperparameter_types import check
from torchwise.optim.assignment import assign
from torchwise.optim.collection import (
    Collection,
    is_groups,
    joined,
    listed,
)
from torchwise.optim.groups import (
    collected,
    completed,
    left_out,
    named_groups,
)
from torchwise.optim.hyperparameters import hyperparameters
from torchwise.optim.parameter import Parameter, is_tensor
from torchwise.optim.refusals import refuse_nothing
from torchwise.optim.transaction import append_together, lock, settle
from torchwise.rule import Rule


class Grouped:
    """What holds parameters in groups, each with hyperparameters of a rule.

    Args:
        params: see `Optimizer`.
        defaults: the hyperparameters of groups that do not give their own.
        groups: see `Optimizer`.

    Attributes:
        rule: has the mathematics, the hyperparameters and what torch calls them.
    """

    rule: ClassVar[type[Rule]]

    def __init__(self, params: Any, defaults: dict[str, Any], groups: Groups | None = None) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._collections: list[Collection] = []
        if isinstance(params, Parameter | jax.Array | np.ndarray):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}"
            )
        self._check(defaults)
        params = listed(params)
        self._given_as_groups, self._is_one_tree = is_groups(params), groups is not None
        if not self._given_as_groups and not jax.tree.leaves(params):
            raise ValueError("optimizer got an empty parameter list")
        if groups is not None:
            self._add_by_name(params, groups)
        else:
            for group in params if self._given_as_groups else [{"params": params}]:
                self.add_param_group(group)
        refuse_nothing(params, self._parameters())

    @property
    def params(self) -> Any:
        """The current values, in the structure that was passed.

        With `(name, array)` pairs that is a dict by name; with a list of groups, a list with one
        structure per group, but with `groups=` the one tree. What is returned keeps its values when
        the optimizer steps on, and to change it changes nothing here: assign a whole tree of the
        same structure, as in `optimizer.params = new`. The state stays.

        Raises:
            ValueError: if what is assigned has another structure, shapes or types, by name; nothing
                has changed then.
        """
        with lock:
            settle()
            return jax.tree.map(
                lambda leaf: leaf.data if isinstance(leaf, Parameter) else leaf, self._tree()
            )

    @params.setter
    def params(self, values: Any) -> None:
        with lock:
            settle()
            assign(self._tree(), values)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own.

        Args:
            param_group: parameters under "params", as in the constructor, and hyperparameters;
                those not given are the defaults. The dict is not changed. If the parameters are one
                tree, as with `groups=`, new ones join its dicts, and those that it has and no
                group can also be named by patterns under "match".

        Raises:
            TypeError, ValueError: as torch does; the optimizer is then as it was before.
        """
        if isinstance(param_group, Mapping) and MATCH in param_group:
            known = [one for collection in self._collections for one in collection.parameters]
            found = left_out(param_group, known, self.param_groups, self._rule_keys())
            self.param_groups.append(self._completed(*found))
            return
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        collection = collected(param_group["params"])
        group = self._completed(param_group, collection)
        if not self._is_one_tree:
            append_together((self._collections, self.param_groups), (collection, group))
            return
        whole, groups = joined(self._collections[0], collection), [*self.param_groups, group]
        vars(self).update(_collections=[whole], param_groups=groups)  # at once

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # What a group may be.

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        """Return the rule with the hyperparameters of a group, read as numbers."""
        return self.rule.from_group(hyperparameters(group, self.rule.group_keys))

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise torch's errors for invalid hyperparameters."""
        read = hyperparameters(group, self.rule.group_keys)  # refuses functions
        tensors = {key: read[key] for key in read if is_tensor(group.get(key))}
        check(self.rule.from_group({**group, **tensors}), f"{type(self).__name__}()")

    def _check_params(self, group: Mapping[str, Any]) -> None:
        """Raise torch's errors for parameters that the optimizer does not take."""
        rule = self._rule(group)
        for parameter in group["params"]:
            rule.check_param(parameter.own_array)

    def _rule_keys(self) -> Sequence[str]:
        """The keys of a group that its rule depends on."""
        return self.rule.group_keys

    # Inside.

    def _add_by_name(self, params: Any, groups: Groups) -> None:
        """Make all groups of one tree."""
        if self._given_as_groups:
            raise ValueError(
                "groups are given twice: pass one tree of parameters with groups=, or a list of "
                "dicts with 'params' without it"
            )
        whole = collected(params)
        self._collections = [whole]
        for options, part in named_groups(whole, groups, self._rule_keys()):
            self.param_groups.append(self._completed(options, part))
        if whole.parameters and not self._parameters():
            raise ValueError("groups leave out all parameters: there is nothing to optimize")

    def _completed(self, options: Mapping[str, Any], part: Collection) -> dict[str, Any]:
        """Return a new group with all keys.

        Raises:
            TypeError, ValueError: as torch does.
        """
        group = completed(options, part, self.defaults, self.param_groups)
        self._check(group)
        self._check_params(group)
        return group

    def _tree(self) -> Any:
        """What was passed, with a `Parameter` in the place of each array that is optimized."""
        trees = [collection.tree for collection in self._collections]
        return trees if self._given_as_groups or len(trees) > 1 else trees[0]

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _owners(self) -> list[tuple[Rule, list[Parameter]]]:
        """Return the rule and the parameters of each group."""
        return [(self._rule(group), group["params"]) for group in self.param_groups]
