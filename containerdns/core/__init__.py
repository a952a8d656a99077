"""What computes: no clock, no socket, no environment, no logging, no async."""
