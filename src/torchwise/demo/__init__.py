"""`python -m torchwise.demo`: train a small network on real digits, and compare it with torch's."""
