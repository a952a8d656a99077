"""What asks other servers for the names that are not ours."""
