"""Chains and their states as torch's state dicts, and parameters as those of models."""
