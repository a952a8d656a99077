"""`python -m containerdns` is the command `containerdns`."""

from containerdns.cli import main

main()
