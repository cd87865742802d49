"""What torch calls a layer: by its path, or as the caller says."""

from collections.abc import Mapping
from typing import Any

from torchwise.layouts.layer import Layer


class Names:
    """Torch's names for what is in the modules of a model.

    Args:
        modules: torch's names of modules, by their dotted paths. A star in a name is where the name
            of the array goes: `"lstm.*_l1"`. Without one it goes behind a dot.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.modules = modules
        self._unused = {*modules}

    def mentions_inside(self, path: str) -> bool:
        """Whether the caller has named something below a module."""
        return any(name.startswith(f"{path}." if path else "") for name in self.modules)

    def of(self, layer: Layer, name: str) -> str:
        """Return torch's name of an array of a layer, given the part of it below the layer's."""
        template = self._module("*", "")
        for level, key in enumerate(layer.keys):
            path = ".".join(layer.keys[: level + 1])
            if path in self.modules:
                template = self._module(template, path)
            else:
                template = template.replace("*", _own(layer.owners[level], key))
        return template.replace("*", name)

    def refuse_unused(self, call: str) -> None:
        """Raise a ValueError for modules that are not in the model."""
        if self._unused:
            raise ValueError(
                f"{call}(): modules= has {', '.join(map(repr, sorted(self._unused)))}, where the "
                "model has no arrays"
            )

    def _module(self, template: str, path: str) -> str:
        if path not in self.modules:
            return template
        self._unused.discard(path)
        name = self.modules[path]
        return name if "*" in name else f"{name}.*" if name else "*"


def _own(owner: Any, key: str) -> str:
    """Return what torch puts in the place of a key: a Sequential has numbers for names."""
    kinds = {
        kind.__name__
        for kind in type(owner).__mro__
        if kind.__module__.split(".")[0] in ("flax", "equinox")
    }
    if "Sequential" in kinds and key == "layers":
        return "*"
    if "Sequential" in kinds and key.startswith("layers_"):
        return f"{key.removeprefix('layers_')}.*"
    if "RNN" in kinds and key == "cell":
        return "*_l0"
    if "Bidirectional" in kinds and key in ("forward_rnn", "backward_rnn"):
        return "*" if key == "forward_rnn" else "*_reverse"
    return f"{key}.*"
