"""A Docker-aware authoritative DNS server."""
