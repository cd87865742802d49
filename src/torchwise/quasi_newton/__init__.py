"""L-BFGS as torch computes it: one path, which a jitted loop and a loop over closures follow."""
