"""torch.optim's exact semantics as pure JAX gradient transforms."""
