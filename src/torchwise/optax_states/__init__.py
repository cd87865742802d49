"""The state of a chain as the state of optax's own function with the same formula, and back."""
