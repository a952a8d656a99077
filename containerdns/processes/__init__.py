"""What a process that answers consists of, and the processes of --workers."""
