"""`python -m containerdns` is the command `containerdns`."""

from containerdns.commands.cli import main

main()
