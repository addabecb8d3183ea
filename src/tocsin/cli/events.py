"""`tocsin events`: what was published."""

from typing import Annotated

from cyclopts import App, Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, Organization

app = App(
    name="events",
    help="""Events: what was published.

Without a command: list them.

For example:

    tocsin events --org acme --type build.created
    tocsin events show 64f0… --org acme       with its deliveries
    tocsin publish build.created '{}'         makes one
""",
)

COLUMNS = {
    "id": "id",
    "type": "type",
    "project_id": "project",
    "deliveries": "deliveries",
    "unmatched": "unmatched",
    "created_at": "created",
}
OF_EVENT = {
    "id": "delivery",
    "channel_id": "channel",
    "status": "status",
    "waiting_for": "waiting for",
    "attempt_count": "attempts",
    "last_error": "last error",
}


@app.default
@app.command(name="list")
def list_(
    *,
    type: Annotated[str | None, Parameter(help="Only this event type.")] = None,
    project: Annotated[str | None, Parameter(name=("--project", "-p"), help="Only of it.")] = None,
    after: Annotated[str | None, Parameter(help="Created at or after this time.")] = None,
    before: Annotated[str | None, Parameter(help="Created before this time.")] = None,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List events, newest first."""
    api, org = on.place()
    filters = {"type": type, "project": project, "after": after, "before": before}
    path = at("organizations", org, "events")
    empty = "no such events"
    print_list(api, path, listed, COLUMNS, json=on.json, empty=empty, filters=filters)


@app.command
def show(
    event: str,
    /,
    *,
    on: Organization = ORGANIZATION,
) -> None:
    """Show one event with its data and its deliveries."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "events", event))
    if on.json:
        output.print_json(found)
        return
    deliveries = found.pop("deliveries")
    output.print_object(found, json=False)
    output.print_table(deliveries, OF_EVENT, "it went to no channel")
