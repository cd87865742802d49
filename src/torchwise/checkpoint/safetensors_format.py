"""Facts about safetensors files that reading and writing share.

A file is eight bytes of length, a JSON header and the elements. The package of that name is not
needed for that: it copies what it reads, and accepts a header that names one tensor twice.
"""

import struct

HEADER_LENGTH = struct.Struct("<Q")
MAX_HEADER = 100_000_000
"""Longest header, in bytes, that the format allows."""
