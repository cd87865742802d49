"""Gradient blocks: one per file, which bears the name of its public function."""
