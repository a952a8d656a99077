"""Tools to build the project; not needed to run it."""
