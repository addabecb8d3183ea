"""What an operator types: `tocsin …`. Each command's module is imported when it is used."""

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 used wrongly."""
    from tocsin.cli.tree import run

    sys.exit(run(sys.argv[1:]))
