"""Read and rewrite every checkpoint of a folder where torch and safetensors cannot be imported."""

import sys
from pathlib import Path

sys.modules["torch"] = None
sys.modules["safetensors"] = None

from torchwise.checkpoint import load, save  # noqa: E402 (the block comes first)

count = 0
for path in sorted(Path(sys.argv[1]).glob("*.pt")):
    value = load(path)
    for suffix in (".pth", ".safetensors"):
        copy = path.with_suffix(suffix)
        save(copy, value)
        assert repr(load(copy)) == repr(value), path
    count += 1
print("files", count)
