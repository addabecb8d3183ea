"""What an operator types: `tocsin …`. Each command's module is imported when it is used."""

import gc
import sys

GC_THRESHOLDS = (50_000, 20, 50)
"""Importing makes many objects and no garbage: looking for it took a third of every start."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 used wrongly."""
    gc.set_threshold(*GC_THRESHOLDS)
    from tocsin.cli.tree import run

    sys.exit(run(sys.argv[1:]))
