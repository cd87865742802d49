"""Where parameters are in the flat arrays that DeepSpeed's ZeRO divides among processes.

Stages 1 and 2 put the parameters of a group one behind the other, fill up to a multiple of twice
the number of processes, and give each process an equal part; the last one leaves the filling away.
Stage 3 divides every parameter by itself, into parts of equal size, and each process puts its parts
of a group one behind the other.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from torchwise.checkpoint.errors import CheckpointError, repr_short

_FACTOR = 2


class Place(NamedTuple):
    """A parameter in the parts.

    Attributes:
        shape: of the whole.
        pieces: the process, and from where to where in its part.
    """

    shape: tuple[int, ...]
    pieces: list[tuple[int, int, int]]


class Partition(NamedTuple):
    """A group of parameters in the parts of all processes.

    Attributes:
        places: of the parameters, by name.
        sizes: how many elements the part of each process may have: the least and the most.
    """

    places: dict[str, Place]
    sizes: list[tuple[int, int]]

    def joined(self, parts: Sequence[np.ndarray], what: str) -> dict[str, np.ndarray]:
        """Put the parameters together.

        Args:
            parts: of each process.
            what: they are, for errors.

        Raises:
            CheckpointError: a part has another size or type than the files say.
        """
        for rank, (part, (least, most)) in enumerate(zip(parts, self.sizes, strict=True)):
            if part.ndim != 1 or not least <= part.size <= most or part.dtype != parts[0].dtype:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                raise CheckpointError(
                    f"has {repr_short(what)} of shape {part.shape} and type {part.dtype.name} from "
                    f"process {rank}, where {wanted} elements of {parts[0].dtype.name} should be"
                )
        return {name: _whole(place, parts) for name, place in self.places.items()}


def _whole(place: Place, parts: Sequence[np.ndarray]) -> np.ndarray:
    pieces = [parts[rank][start:stop] for rank, start, stop in place.pieces]
    whole = np.concatenate(pieces or [parts[0][:0]]).reshape(place.shape)
    whole.flags.writeable = False
    return whole


def partition_of_group(
    shapes: dict[str, tuple[int, ...]], sizes: Sequence[int], paddings: Sequence[int]
) -> Partition:
    """Find the parameters of a group in stage 1 or 2.

    Args:
        shapes: of the parameters, in their order.
        sizes: of the parts of all processes.
        paddings: elements behind each parameter that belong to none.

    Raises:
        CheckpointError: the parts are too short, too long, or not equal.
    """
    offset, bounds = 0, {}
    for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
        bounds[name] = offset, offset + math.prod(shape)
        offset += math.prod(shape) + padding
    processes, part = len(sizes), sizes[0]
    most = math.ceil(offset / (_FACTOR * processes)) * _FACTOR * processes
    equal = all(size == part for size in sizes[:-1]) and sizes[-1] <= part
    if not equal or sum(sizes) < offset or part * processes > most:
        raise CheckpointError(
            f"has parts of {_few(sizes)} elements of the group of {_few(shapes)}, which has "
            f"{repr_short(offset)}; the files are not of one checkpoint"
        )
    places: dict[str, Place] = {}
    for name, (start, stop) in bounds.items():
        ranks = range(start // part, -(-stop // part)) if stop > start else range(0)
        cut = [(r, max(start - r * part, 0), min(stop - r * part, part)) for r in ranks]
        places[name] = Place(shapes[name], cut)
    before = part * (processes - 1)
    last = max(offset - before, 0), most - before
    return Partition(places, [(part, part)] * (processes - 1) + [last])


def partition_by_parameter(shapes: dict[str, tuple[int, ...]], sizes: Sequence[int]) -> Partition:
    """Find the parameters of a group in stage 3; see `partition_of_group`."""
    processes, offset = len(sizes), 0
    places: dict[str, Place] = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        part = -(-size // processes)
        cuts = [min(part, max(size - rank * part, 0)) for rank in range(processes)]
        pieces = [(rank, offset, offset + cut) for rank, cut in enumerate(cuts) if cut]
        places[name] = Place(shape, pieces)
        offset += part
    if any(size != offset for size in sizes):
        raise CheckpointError(
            f"has parts of {_few(sizes)} elements of the group of {_few(shapes)}, where each "
            f"should have {repr_short(offset)}; the files are not of one checkpoint"
        )
    return Partition(places, [(offset, offset)] * processes)


def _few(values: Sequence[int] | dict[str, tuple[int, ...]]) -> str:
    shown = [repr_short(value) for value, _ in zip(values, range(3))]
    return ", ".join(shown) + ", ..." * (len(values) > len(shown))
