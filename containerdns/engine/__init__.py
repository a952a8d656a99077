"""The client and the watcher of Docker Engines."""
