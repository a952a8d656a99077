"""Coroutines that run beside DNS: restarting them, and taking turns."""
