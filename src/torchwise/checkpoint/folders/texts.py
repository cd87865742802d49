"""JSON files that lie beside a checkpoint's tensors."""

import json
import os
from typing import Any

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.structure import check_size
from torchwise.checkpoint.tree import check_tree

_MAX_BYTES = 100_000_000


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; NaN and infinities are numbers, since trainers log them.

    Raises:
        CheckpointError: it is no JSON, too long or too deep; the text names it.
        OSError: the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            encoded = file.read(_MAX_BYTES + 1)
        if len(encoded) > _MAX_BYTES:
            raise CheckpointError(f"has more than {_MAX_BYTES} bytes")
        text = encoded.decode("utf-8")
        check_size(text)
        return check_tree(json.loads(text))
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None
    except RecursionError:
        raise CheckpointError(f"{os.fspath(path)}: nests too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(path)}: is not JSON: {error}") from None
