"""Names: who has which, and what stands there."""
