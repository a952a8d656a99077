"""The state of the server, and its only writer."""
