"""torch's state dicts, from and to the state of a chain."""
