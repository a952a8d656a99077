"""The subcommands: what each prints, and its exit status."""
