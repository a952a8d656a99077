"""Names and records: which container has which name, and its records."""
