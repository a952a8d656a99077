"""`python -m containerdns` is the command `containerdns`."""

from containerdns.commands.cli import main

if __name__ == "__main__":
    main()
