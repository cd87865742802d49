"""Rates that fall from layer to layer, as trainers that fine-tune have them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torchwise.groups.patterns import Patterns, listed, matched, patterns_of, refuse_unmatched
from torchwise.groups.selection import Entry, Selected, TrainerGroups, axes_of, names_in


@dataclass(frozen=True)
class _LayerDecay(TrainerGroups):
    lr: float
    layers: Callable[[str], int] | list[list[str]]
    decay: float
    weight_decay: float
    no_decay: list[str]
    depth: int | None

    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        names = names_in(entries)
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
            plain = axes_of(entry) <= 1 or matched(entry.name, self.no_decay) is not None
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
) -> TrainerGroups:
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
    plain = listed(no_decay, "no_decay")
    if callable(layers):
        return _LayerDecay(lr, layers, decay, weight_decay, plain, None)
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers is a list with patterns for each layer, but got {layers!r}")
    each = [patterns_of(one, f"layer {index} of layers") for index, one in enumerate(layers)]
    return _LayerDecay(lr, each, decay, weight_decay, plain, len(each))
