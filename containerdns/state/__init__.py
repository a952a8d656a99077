"""The state of the server and its one writer."""
