"""Pure computation: no clock, no sockets, no environment, no logging, no async."""
