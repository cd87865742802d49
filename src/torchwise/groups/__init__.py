"""Which parameters form a group, said by their names; ready-made rules of known trainers."""

from torchwise.groups.recipes import hugging_face, layer_decay, timm, torchvision

__all__ = ["hugging_face", "layer_decay", "timm", "torchvision"]
