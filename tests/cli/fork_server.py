"""Runs `tocsin …` again and again, each in a process of its own that has nothing to import.

A process that does only this, so that it may fork: a line of JSON on standard input says the
arguments, folder, environment and files of a command, and its exit code is the line that answers.
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any

from tocsin.cli import main

# What nearly every command imports; a child that needs more imports it by itself.
for module in ("tree", "client", "operator", "output", "listing", "server", "settings"):
    importlib.import_module(f"tocsin.cli.{module}")


def become(asked: dict[str, Any]) -> None:
    """Be that command; does not return."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for descriptor, name in enumerate(asked["files"]):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY
        opened = os.open(name, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv[1:] = asked["arguments"]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """One command after the other, until standard input ends."""
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
