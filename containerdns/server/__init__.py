"""The DNS server: sockets, and everything between them and core."""
