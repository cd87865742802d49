"""The groups that known trainers make of a model, in their order.

Trainers ask for the type of a layer, which a tree of arrays does not tell. Here a layer whose
`weight` (`scale`, `gamma`) has at most one axis is a normalization, whatever it is called.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torchwise.groups.patterns import matched, patterns_of, refuse_unmatched
from torchwise.groups.selection import Entry, Recipe, Selected

Patterns = str | Sequence[str]
_GAINS = ("weight", "scale", "gamma")
# Names, in small letters, that HF's Trainer does not decay.
_OF_HUGGING_FACE = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)")


@dataclass(frozen=True)
class _HuggingFace(Recipe):
    weight_decay: float
    no_decay: list[str]

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        refuse_unmatched(self.no_decay, _names(entries), "no_decay")
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


def hugging_face(weight_decay: float = 0.0, *, no_decay: Patterns = ()) -> Recipe:
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
    return _HuggingFace(weight_decay, _listed(no_decay, "no_decay"))


@dataclass(frozen=True)
class _Timm(Recipe):
    weight_decay: float
    no_decay: list[str]

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        refuse_unmatched(self.no_decay, _names(entries), "no_decay")
        without = [
            _axes(entry) <= 1
            or entry.name.endswith(".bias")
            or matched(entry.name, self.no_decay) is not None
            for entry in entries
        ]
        return [
            Selected({"weight_decay": 0.0}, _where(without, True)),
            Selected({"weight_decay": self.weight_decay}, _where(without, False)),
        ]


def timm(weight_decay: float = 1e-5, *, no_decay: Patterns = ()) -> Recipe:
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
    return _Timm(weight_decay, _listed(no_decay, "no_decay"))


@dataclass(frozen=True)
class _Torchvision(Recipe):
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
) -> Recipe:
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


@dataclass(frozen=True)
class _LayerDecay(Recipe):
    lr: float
    layers: Callable[[str], int] | list[list[str]]
    decay: float
    weight_decay: float
    no_decay: list[str]
    depth: int | None

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        names = _names(entries)
        refuse_unmatched(self.no_decay, names, "no_decay")
        depths = [self._layer(name) for name in names]
        top = max(depths, default=0) if self.depth is None else self.depth - 1
        if not isinstance(self.layers, list) and not all(0 <= one <= top for one in depths):
            wrong = next(name for name, one in zip(names, depths) if not 0 <= one <= top)
            raise ValueError(f"layers({wrong!r}) is no layer from 0 to {top}")
        if isinstance(self.layers, list):
            for index, patterns in enumerate(self.layers):
                refuse_unmatched(patterns, names, f"layer {index} of layers")
        found: dict[tuple[int, bool], Selected] = {}
        for position, (entry, layer) in enumerate(zip(entries, depths)):
            plain = _axes(entry) <= 1 or matched(entry.name, self.no_decay) is not None
            scale = self.decay ** (top - layer)
            options = {
                "lr": self.lr * scale,
                "lr_scale": scale,
                "weight_decay": 0.0 if plain else self.weight_decay,
            }
            found.setdefault((layer, plain), Selected(options, [])).members.append(position)
        return list(found.values())

    def _layer(self, name: str) -> int:
        if not isinstance(self.layers, list):
            return self.layers(name)
        for index, patterns in enumerate(self.layers):
            if matched(name, patterns) is not None:
                return index
        return len(self.layers) - 1


def layer_decay(
    lr: float,
    layers: Sequence[Patterns] | Callable[[str], int],
    *,
    decay: float = 0.75,
    weight_decay: float = 0.05,
    no_decay: Patterns = (),
) -> Recipe:
    """Rates that fall from the last layer to the first, as BEiT and timm fine-tune.

    Each layer has up to two groups, with weight decay and, for arrays of at most one axis, without;
    they stand in the order in which their first parameters do. A group keeps its factor under
    `lr_scale`, as in timm's files.

    Args:
        lr: the rate of the last layer; a layer below has `decay` times that of the one above.
        layers: patterns for each layer, from the first to the last, of which the first that
            matches counts; what none matches is in the last layer. Or a function that returns the
            number of a name's layer, from 0.
        decay: see above.
        weight_decay: of arrays of two axes or more.
        no_decay: patterns on names of further parameters without decay.

    Raises:
        ValueError: for a pattern that matches nothing, and a number that is no layer.

    Source: `param_groups_layer_decay` of timm; Bao et al., arXiv:2106.08254.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import groups, optim
        >>> params = {"blocks": [jnp.ones((2, 2)), jnp.ones((2, 2))], "head": jnp.ones((2, 2))}
        >>> rule = groups.layer_decay(1.0, ["blocks.0*", "blocks.1*", "head*"], decay=0.5)
        >>> optimizer = optim.AdamW(params, lr=1.0, groups=rule)
        >>> [(one["param_names"], one["lr"]) for one in optimizer.param_groups]
        [(['blocks.0'], 0.25), (['blocks.1'], 0.5), (['head'], 1.0)]
    """
    plain = _listed(no_decay, "no_decay")
    if callable(layers):
        return _LayerDecay(lr, layers, decay, weight_decay, plain, None)
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers is a list with patterns for each layer, but got {layers!r}")
    each = [patterns_of(one, f"layer {index} of layers") for index, one in enumerate(layers)]
    return _LayerDecay(lr, each, decay, weight_decay, plain, len(each))


def _listed(patterns: Patterns, where: str) -> list[str]:
    return patterns_of(patterns, where) if patterns else []


def _names(entries: Sequence[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def _axes(entry: Entry) -> int:
    return len(entry.array.shape)


def _where(values: Sequence[Any], value: Any) -> list[int]:
    return [position for position, one in enumerate(values) if one == value]


def _in_norms(entries: Sequence[Entry]) -> set[str]:
    """Return the names of all parameters of layers that normalize."""
    owners = {
        entry.name.rpartition(".")[0]
        for entry in entries
        if entry.name.rpartition(".")[2] in _GAINS and _axes(entry) <= 1
    }
    return {entry.name for entry in entries if entry.name.rpartition(".")[0] in owners}
