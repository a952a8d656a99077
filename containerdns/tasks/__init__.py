"""How coroutines run beside DNS: parts that restart, and turns."""
