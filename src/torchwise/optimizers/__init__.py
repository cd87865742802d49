"""Recipes: validation, then a chain of building blocks. Nothing per array stands here."""
