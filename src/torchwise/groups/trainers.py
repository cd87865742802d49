"""The groups that known trainers make of a model, in their order.

Trainers ask for the type of a layer, which a tree of arrays does not tell. Here a layer whose
`weight` (`scale`, `gamma`) has at most one axis is a normalization, whatever it is called.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchwise.groups.patterns import Patterns, listed, matched, refuse_unmatched
from torchwise.groups.selection import Entry, Selected, TrainerGroups, axes_of, names_in

_GAINS = ("weight", "scale", "gamma")
# Names, in small letters, that HF's Trainer does not decay.
_OF_HUGGING_FACE = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)")


@dataclass(frozen=True)
class _HuggingFace(TrainerGroups):
    weight_decay: float
    no_decay: list[str]

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        refuse_unmatched(self.no_decay, names_in(entries), "no_decay")
        norms = _in_norms(entries)
        without = [
            _OF_HUGGING_FACE.search(entry.name.lower()) is not None
            or entry.name in norms
            or matched(entry.name, self.no_decay) is not None
            for entry in entries
        ]
        return [
            Selected({"weight_decay": self.weight_decay}, _where(without, False)),
            Selected({"weight_decay": 0.0}, _where(without, True)),
        ]


def hugging_face(weight_decay: float = 0.0, *, no_decay: Patterns = ()) -> TrainerGroups:
    """The two groups of HF's Trainer: with decay first, then biases and normalizations without.

    Both groups are there even if one is empty, as in HF's files.

    Args:
        weight_decay: of the first group; `TrainingArguments.weight_decay`.
        no_decay: patterns on names of further parameters without decay.

    Source: `Trainer.create_optimizer` of transformers, whose layer norms are known by their type.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import groups, optim
        >>> params = {"layer": {"weight": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        >>> optimizer = optim.AdamW(params, lr=1e-3, groups=groups.hugging_face(0.1))
        >>> [(one["param_names"], one["weight_decay"]) for one in optimizer.param_groups]
        [(['layer.weight'], 0.1), (['layer.bias'], 0.0)]
    """
    return _HuggingFace(weight_decay, listed(no_decay, "no_decay"))


@dataclass(frozen=True)
class _Timm(TrainerGroups):
    weight_decay: float
    no_decay: list[str]

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        refuse_unmatched(self.no_decay, names_in(entries), "no_decay")
        without = [
            axes_of(entry) <= 1
            or entry.name.endswith(".bias")
            or matched(entry.name, self.no_decay) is not None
            for entry in entries
        ]
        return [
            Selected({"weight_decay": 0.0}, _where(without, True)),
            Selected({"weight_decay": self.weight_decay}, _where(without, False)),
        ]


def timm(weight_decay: float = 1e-5, *, no_decay: Patterns = ()) -> TrainerGroups:
    """The two groups of timm: biases and all arrays of at most one axis first, without decay.

    Args:
        weight_decay: of the second group.
        no_decay: patterns on names of further parameters without decay; what a model of timm lists
            in `no_weight_decay()`.

    Source: `param_groups_weight_decay` of timm.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import groups, optim
        >>> params = {"layer": {"weight": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        >>> optimizer = optim.AdamW(params, lr=1e-3, groups=groups.timm(0.05))
        >>> [(one["param_names"], one["weight_decay"]) for one in optimizer.param_groups]
        [(['layer.bias'], 0.0), (['layer.weight'], 0.05)]
    """
    return _Timm(weight_decay, listed(no_decay, "no_decay"))


@dataclass(frozen=True)
class _Torchvision(TrainerGroups):
    decays: tuple[float, float | None, float | None]  # of the rest, of norms, of biases

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        _, of_norms, of_biases = self.decays
        norms = _in_norms(entries) if of_norms is not None else set[str]()
        kinds = [
            2
            if of_biases is not None and entry.name.rpartition(".")[2] == "bias"
            else int(entry.name in norms)
            for entry in entries
        ]
        found = [
            Selected({"weight_decay": decay}, _where(kinds, kind))
            for kind, decay in enumerate(self.decays)
        ]
        return [one for one in found if one.members]


def torchvision(
    weight_decay: float,
    *,
    norm_weight_decay: float | None = None,
    bias_weight_decay: float | None = None,
) -> TrainerGroups:
    """The groups of torchvision's references: the rest, normalizations, biases; none is empty.

    Args:
        weight_decay: of all that is in no other group.
        norm_weight_decay: of all parameters of normalizations; None makes no group of them.
        bias_weight_decay: of all biases, also those of normalizations; None likewise.

    Source: `set_weight_decay` of torchvision's references for classification.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import groups, optim
        >>> params = {"bn": {"weight": jnp.ones(2), "bias": jnp.ones(2)}, "fc": jnp.ones((2, 2))}
        >>> rule = groups.torchvision(1e-4, norm_weight_decay=0.0)
        >>> optimizer = optim.SGD(params, lr=0.1, groups=rule)
        >>> [(one["param_names"], one["weight_decay"]) for one in optimizer.param_groups]
        [(['fc'], 0.0001), (['bn.weight', 'bn.bias'], 0.0)]
    """
    return _Torchvision((weight_decay, norm_weight_decay, bias_weight_decay))


def _where(values: Sequence[Any], value: Any) -> list[int]:
    return [position for position, one in enumerate(values) if one == value]


def _in_norms(entries: Sequence[Entry]) -> set[str]:
    """Return the names of all parameters of layers that normalize."""
    owners = {
        entry.name.rpartition(".")[0]
        for entry in entries
        if entry.name.rpartition(".")[2] in _GAINS and axes_of(entry) <= 1
    }
    return {entry.name for entry in entries if entry.name.rpartition(".")[0] in owners}
