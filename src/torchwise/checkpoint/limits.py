"""Bounds that reading and writing share, so that whatever can be saved can be loaded."""

MAX_DEPTH = 100
"""Containers inside containers; real checkpoints stay below ten."""

MAX_NODES = 10_000_000
"""Values in a checkpoint, counting a shared container once for every place it appears in."""

MAX_DIMENSIONS = 64
"""Dimensions of an array, by numpy."""

MAX_KEY = 2**63
"""Bound of integer keys: hashes of longer ones collide at will, which makes a dict quadratic."""

MAX_INT_BYTES = 255
"""Longest integer, as two's complement: what one byte of length can announce in a pickle."""


def int_bytes(value: int) -> bytes:
    """Shortest little-endian two's complement of an integer; empty for zero, as pickle has it."""
    if value == 0:
        return b""
    length = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return value.to_bytes(length, "little", signed=True)
