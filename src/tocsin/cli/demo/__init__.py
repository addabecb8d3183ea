"""`tocsin demo`: the whole of Tocsin at work, with nothing to configure."""

from typing import Annotated

from cyclopts import Parameter


def demo(
    *,
    once: Annotated[
        bool, Parameter(negative="", help="End by itself, with 0 if all went well.")
    ] = (False),
) -> int:
    """See it work: a service, a receiver, signed deliveries, a retry.

    Starts the service on a temporary directory and a receiver beside it,
    makes an organization and a project, one webhook channel through each of
    the three API dialects, publishes events, and shows every delivery arrive
    and verify; one fails first and succeeds on its retry. Then it stays up,
    for you to try things, until Ctrl-C. Nothing is left behind.

    For example:

        tocsin demo
        tocsin demo --once
    """
    from tocsin.cli.demo.play import play

    return play(once=once)
