"""Bounds that reading and writing share, so that whatever can be saved can be loaded."""

MAX_DEPTH = 100
"""Containers inside containers; real checkpoints stay below ten."""

MAX_NODES = 10_000_000
"""Values in a checkpoint, counting a shared container once for every place it appears in."""

MAX_CONTAINERS = 1_000_000
"""Dicts, lists, tuples and tensors: a byte of a file can stand for one, which takes 60 and more."""

MAX_BRACKETS = MAX_NODES + 2 * MAX_CONTAINERS
"""Objects and arrays of JSON: one for a list, two for a dict, one for each of its items."""

MAX_DIMENSIONS = 64
"""Dimensions of an array, by numpy."""

MAX_KEY = 2**63
"""Bound of integer keys that are written: hashes of longer ones collide at will."""

MAX_INT_BITS = 8 * 255 - 1
"""Longest integer: what the one byte of length in a pickle can announce, less the sign."""

MAX_KEY_PARTS = 64
"""Values in a key that is a tuple, counting a shared one once for every place it appears in."""

MAX_COLLISIONS = 100
"""Keys of one hash in a dict or set, where a file can choose the hash."""

MAX_NAME = 500
"""Characters of the name of a class."""
