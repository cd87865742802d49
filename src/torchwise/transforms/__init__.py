"""Per-array mathematics: one building block a file, composed by `chain`. No Python state."""
