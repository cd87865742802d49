"""Which values a file may use as keys, so that no dict takes time without end.

Python cuts no hash short: that of a tuple visits all that is in it, as often as it is named there,
and whoever writes a file can make as many tuples, or long integers, of one hash as he likes.
"""

from collections import Counter
from typing import Any

import numpy as np

from torchwise.checkpoint.limits import MAX_COLLISIONS, MAX_KEY, MAX_KEY_PARTS
from torchwise.checkpoint.records import Name, Record

_SCATTERED = (str, bytes, float, bool, type(None))  # of these, few have the same hash
_HASHABLE = (*_SCATTERED, int, complex, tuple, Name, Record)


class Keys:
    """Checks the keys of the dicts and sets of one file before they are hashed."""

    def __init__(self) -> None:
        self._hashes: Counter[tuple[int, int]] = Counter()

    def allows(self, target: Any, key: Any) -> bool:
        """Whether a key may be put into a dict or set."""
        kind = type(key)
        if kind in _SCATTERED or (kind is int and abs(key) < MAX_KEY):
            return True
        if not _is_short(key):
            return False
        if len(target) < MAX_COLLISIONS:
            return True
        place = id(target), hash(key)
        self._hashes[place] += 1
        return self._hashes[place] <= MAX_COLLISIONS


def _is_short(key: Any) -> bool:
    left = [key]
    for _ in range(MAX_KEY_PARTS):
        part = left.pop()
        if not isinstance(part, (*_HASHABLE, np.generic)):
            return False
        if type(part) is tuple:
            if len(part) > MAX_KEY_PARTS:
                return False
            left.extend(part)
        if not left:
            return True
    return False
