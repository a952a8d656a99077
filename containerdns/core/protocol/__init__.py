"""Messages: bytes to query, response to bytes, and what is kept of both."""
