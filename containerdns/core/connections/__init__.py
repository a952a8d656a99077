"""Limits of connections and file descriptors."""
