"""`tocsin publish`: an event from the command line."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.errors import CommandFailed, Misused
from tocsin.cli.server import ORGANIZATION, Organization

UNMATCHED = {
    "no_channel": "there is no channel where it could go",
    "no_type": "no channel wants events of this type",
    "filtered": "the filters of all channels refuse it",
}


def publish(
    type: str,
    data: Annotated[str, Parameter(allow_leading_hyphen=True)] = "{}",
    /,
    *,
    project: Annotated[str | None, Parameter(name=("--project", "-p"))] = None,
    idempotency_key: str | None = None,
    channel: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    title: str | None = None,
    text: str | None = None,
    severity: Literal["info", "warning", "error", "critical"] | None = None,
    link: str | None = None,
    on: Organization = ORGANIZATION,
) -> None:
    """Publish an event; it is stored when this ends with 0.

    For example:

        tocsin publish build.created '{"number": 42}' --org acme
        tocsin publish build.created @build.json --org acme --project ios
        make-report | tocsin publish report.ready - --org acme

    Parameters
    ----------
    type
        What happened: words joined by dots, like build.created
    data
        The payload, any JSON; @FILE reads a file, - standard input.
    project
        The project it belongs to, by slug or id.
    idempotency_key
        Publishing again with the same key stores and delivers nothing.
    channel
        Only to this channel, whatever it subscribes to; may be repeated.
    title
        A title for channels that people read.
    text
        A text for channels that people read.
    severity
        How bad it is, for channels that people read.
    link
        Where to read more.
    """
    event: dict[str, Any] = {"type": type, "data": read_data(data)}
    event |= {
        name: value
        for name, value in {
            "project": project,
            "idempotency_key": idempotency_key,
            "channel_ids": list(channel) or None,
            "title": title,
            "text": text,
            "severity": severity,
            "link": link,
        }.items()
        if value is not None
    }
    api, org = on.place()
    accepted = api.call("POST", at("organizations", org, "events"), event)
    if on.json:
        output.print_json(accepted)
        return
    output.print_line(summary(accepted))
    if accepted["deliveries"]:
        output.print_hint(f"`tocsin events show {accepted['id']}` shows where it went")


def summary(accepted: dict[str, Any]) -> str:
    """What became of a published event, in a sentence."""
    id, count = accepted["id"], accepted["deliveries"]
    if accepted["duplicate"]:
        told = f"{id}: published before under this idempotency key; nothing new is delivered"
        return told + (", and type or data differ" if accepted["mismatch"] else "")
    if accepted["unmatched"]:
        return f"{id}: stored, but {UNMATCHED.get(accepted['unmatched'], 'nothing matches')}"
    return f"{id}: stored, on its way to {count} channel{'s' if count != 1 else ''}"


def read_data(text: str) -> Any:
    """The payload that an argument means."""
    if text == "-":
        text, source = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text()
        except OSError as error:
            raise CommandFailed(f"can't read {source}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Misused(f"{source} is no UTF-8 text") from None
    else:
        source = "the data"
    try:
        return json_module.loads(text)
    except (ValueError, RecursionError) as error:
        hint = """quote it for the shell: '{"number": 42}'; a text is '"like this"'"""
        raise Misused(f"{source} is no JSON: {error}", hint) from None
