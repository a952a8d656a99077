"""Behaviours in zone-file text, and what reads and plays them."""
