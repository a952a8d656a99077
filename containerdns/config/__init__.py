"""Configuration: the options, their values, and defaults taken from the machine."""
