"""The subcommands: what each prints, and what it exits with."""
