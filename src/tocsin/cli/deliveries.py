"""`tocsin deliveries` and `tocsin retry`: each event on its way to each channel."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.errors import FAILED, CommandFailed, Misused
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, Organization

app = App(
    name="deliveries",
    help="""Deliveries: each event on its way to each channel.

Without a command: list them.

For example:

    tocsin deliveries --org acme
    tocsin deliveries --org acme --status exhausted
    tocsin deliveries show 64f0… --org acme      with every attempt
    tocsin retry 64f0… --org acme
""",
)

COLUMNS = {
    "id": "id",
    "event_type": "event",
    "channel_id": "channel",
    "status": "status",
    "waiting_for": "waiting for",
    "attempt_count": "attempts",
    "next_attempt_at": "next attempt",
    "last_error": "last error",
}
ATTEMPTS = {
    "number": "attempt",
    "started_at": "started",
    "duration_ms": "ms",
    "outcome": "outcome",
    "status_code": "status",
    "error": "error",
    "response_body": "response",
}


@app.default
@app.command(name="list")
def list_(
    *,
    channel: Annotated[str | None, Parameter(help="Only to this channel.")] = None,
    project: Annotated[str | None, Parameter(name=("--project", "-p"), help="Only of it.")] = None,
    status: Annotated[
        Literal["waiting", "sending", "delivered", "exhausted", "rejected", "cancelled", "grouped"]
        | None,
        Parameter(help="Only those that stand so."),
    ] = None,
    event_type: Annotated[str | None, Parameter(help="Only of this event type.")] = None,
    after: Annotated[str | None, Parameter(help="Created at or after this time.")] = None,
    before: Annotated[str | None, Parameter(help="Created before this time.")] = None,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List deliveries, newest first."""
    api, org = on.place()
    filters = {
        "channel": channel,
        "project": project,
        "status": status,
        "event_type": event_type,
        "after": after,
        "before": before,
    }
    path = at("organizations", org, "deliveries")
    empty = "no such deliveries"
    print_list(api, path, listed, COLUMNS, json=on.json, empty=empty, filters=filters)


@app.command
def show(
    delivery: str,
    /,
    *,
    on: Organization = ORGANIZATION,
) -> None:
    """Show one delivery with every attempt."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "deliveries", delivery))
    if on.json:
        output.print_json(found)
        return
    attempts = found.pop("attempts")
    output.print_object(found, json=False)
    output.print_table(attempts, ATTEMPTS, "no attempt yet")


def retry(
    *delivery: str,
    on: Organization = ORGANIZATION,
) -> int:
    """Send finished deliveries once more, now.

    Their schedule begins anew, their attempt numbers go on. `tocsin
    deliveries --status exhausted` lists those that were given up.

    For example:

        tocsin retry 64f0c2… --org acme
    """
    if not delivery:
        raise Misused("which delivery?", "`tocsin deliveries --status exhausted` lists candidates")
    api, org = on.place()
    answers, failed = [], 0
    for id in delivery:
        try:
            answers.append(api.call("POST", at("organizations", org, "deliveries", id, "retry")))
        except CommandFailed as failure:
            failed += 1
            output.print_failure(CommandFailed(f"{id}: {failure.message}", failure.hint))
    if on.json:
        output.print_json({"data": answers})
    else:
        for one in answers:
            output.print_line(f"{one['id']}: {one['status']}, due now")
    return FAILED if failed else 0
