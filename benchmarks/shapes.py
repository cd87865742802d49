"""The shapes that the benchmarks and the structural tests use; all in elements, nothing loaded."""

import math

Shape = tuple[int, ...]


def count(shape: Shape) -> int:
    """Return the number of elements."""
    return math.prod(shape)


_WIDTH = 768  # of GPT-2 small


def resnet50() -> list[Shape]:
    """Return the 161 parameter shapes of ResNet-50 (25.6M elements), convolutions as OIHW."""
    shapes: list[Shape] = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for out, into, size in ((width, channels, 1), (width, width, 3), (4 * width, width, 1)):
                shapes += [(out, into, size, size), (out,), (out,)]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2_small() -> list[Shape]:
    """Return the 148 parameter shapes of GPT-2 small (124M elements)."""
    return [(50257, _WIDTH), (1024, _WIDTH), *(gpt2_block() * 12), (_WIDTH,), (_WIDTH,)]


def gpt2_block() -> list[Shape]:
    """Return the 12 parameter shapes of one of its blocks (7.1M elements)."""
    norm: list[Shape] = [(_WIDTH,), (_WIDTH,)]
    block = [*norm, (_WIDTH, 3 * _WIDTH), (3 * _WIDTH,), (_WIDTH, _WIDTH), (_WIDTH,)]
    return [*block, *norm, (_WIDTH, 4 * _WIDTH), (4 * _WIDTH,), (4 * _WIDTH, _WIDTH), (_WIDTH,)]


SHAPES: dict[str, list[Shape]] = {
    "one array of 25M": [(25_000_000,)],
    "ResNet-50": resnet50(),
    "GPT-2 small": gpt2_small(),
    "GPT-2 block": gpt2_block(),
    "400 of 16 x 16": [(16, 16)] * 400,
    "2000 of 16 x 16": [(16, 16)] * 2000,
}
