"""JSON files that lie beside a checkpoint's tensors."""

import json
import os
from typing import Any

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.naming import errors_naming
from torchwise.checkpoint.structure import check_size
from torchwise.checkpoint.tree import check_tree

_MAX_BYTES = 100_000_000


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; NaN and infinities are numbers, since trainers log them.

    Raises:
        CheckpointError: it is no JSON, too long or too deep; the text names it.
        OSError: the file cannot be opened.
    """
    with errors_naming(path):
        with open(path, "rb") as file:
            encoded = file.read(_MAX_BYTES + 1)
        if len(encoded) > _MAX_BYTES:
            raise CheckpointError(f"has more than {_MAX_BYTES} bytes")
        try:
            text = encoded.decode("utf-8")
            check_size(text)
            return check_tree(json.loads(text))
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"is not JSON: {error}") from None
