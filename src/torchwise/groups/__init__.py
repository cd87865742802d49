"""Which parameters form a group, said by their names; ready-made rules of known trainers."""

from torchwise.groups.recipes import hugging_face, layer_decay, timm, torchvision
from torchwise.groups.selection import Recipe

__all__ = ["Recipe", "hugging_face", "layer_decay", "timm", "torchvision"]
