"""The components of a process that answers queries, and the processes of --workers."""
