"""Checkpoints that are several files: folders of trainers, and tensors in shards."""
