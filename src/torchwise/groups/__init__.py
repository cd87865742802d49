"""Which parameters form a group, said by their names; ready-made rules of known trainers."""

from torchwise.groups.layers import layer_decay
from torchwise.groups.trainers import hugging_face, timm, torchvision

__all__ = ["hugging_face", "layer_decay", "timm", "torchvision"]
