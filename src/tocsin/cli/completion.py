"""`tocsin completion`: the Tab key."""

from typing import Annotated, Literal

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.errors import CommandFailed, Misused

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Shell | None = None,
    /,
    *,
    install: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print or install shell completion.

    For example:

        tocsin completion --install
        tocsin completion bash > /etc/bash_completion.d/tocsin

    Parameters
    ----------
    shell
        Which shell; default: the one this runs in.
    install
        Put it where the shell finds it, and into the shell's start file.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from tocsin.cli.tree import tree

    try:
        if not install:
            print(tree().generate_completion(shell=shell))
            return
        path = tree().install_completion(shell=shell)
    except ShellDetectionError:
        raise Misused("which shell is this?", "name it: bash, zsh or fish") from None
    except OSError as error:
        raise CommandFailed(f"can't write {error.filename}: {error.strerror}") from None
    output.print_line(f"written to {path}; start a new shell to use it")


def install_here() -> None:
    """Install completion for the shell this runs in."""
    completion(install=True)
