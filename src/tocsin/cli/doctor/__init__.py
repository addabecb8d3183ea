"""`tocsin doctor`: look at what usually goes wrong, and say what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tocsin.cli import output
from tocsin.cli.doctor import database, folder, reach, settings
from tocsin.cli.doctor.findings import MARKS, Finding
from tocsin.cli.errors import FAILED
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.config import Settings
from tocsin.domain.text import visible


def doctor(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
    flags: Flags = NO_FLAGS,
) -> int:
    """Check settings, files, disk, clock, keys, server and what it must reach.

    Says what to repair, and changes nothing. Ends with 1 if something is
    wrong. Run it as the user that runs the server, with the same settings.

    For example:

        tocsin doctor
        tocsin doctor --data-dir /var/lib/tocsin
    """
    findings = list(examine(settings_of(flags)))
    if json:
        output.print_json({"data": [asdict(one) for one in findings]})
    else:
        show(findings)
    return FAILED if any(one.state == "bad" for one in findings) else 0


def examine(given: Settings) -> Iterator[Finding]:
    """Every look, in the order in which a start would stumble."""
    yield from settings.examine(given)
    if given.data_dir.is_dir():
        yield from folder.examine(given)
        yield from database.examine(given)
    else:
        hint = "`tocsin serve` makes it; or name another one with --data-dir"
        yield Finding("note", f"there is no data directory {given.data_dir} yet", hint)
    yield from reach.targets(given)
    if given.data_dir.is_dir():
        yield from reach.server(given)


def show(findings: list[Finding]) -> None:
    """The findings for people."""
    out = output.console()
    for one in findings:
        out.print(Text.assemble(MARKS[one.state], " ", visible(one.what)), soft_wrap=True)
        if one.hint:
            out.print(Text(f"  {visible(one.hint)}", "dim"), soft_wrap=True)
