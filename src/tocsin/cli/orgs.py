"""`tocsin orgs`: organizations, the tenants."""

from typing import Annotated

from cyclopts import App, Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.errors import Misused
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import SERVER, Server

app = App(
    name="orgs",
    help="""Organizations: the tenants.

Without a command: list them.

For example:

    tocsin orgs create Acme
    tocsin orgs create "Acme Inc." --slug acme
    tocsin orgs delete acme --yes
""",
)

COLUMNS = {"id": "id", "slug": "slug", "name": "name", "created_at": "created"}


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Server = SERVER,
) -> None:
    """List organizations."""
    empty = "no organizations yet; `tocsin orgs create NAME` makes one"
    print_list(on.api(), at("organizations"), listed, COLUMNS, json=on.json, empty=empty)


@app.command
def create(
    name: str,
    /,
    *,
    slug: Annotated[str | None, Parameter(help="Its name in URLs; made from NAME else.")] = None,
    on: Server = SERVER,
) -> None:
    """Create an organization."""
    body = {"name": name} | ({"slug": slug} if slug is not None else {})
    made = on.api().call("POST", at("organizations"), body)
    output.print_object(made, json=on.json)
    if not on.json:
        output.print_hint(f"next: tocsin keys create NAME --org {made['slug']}")


@app.command
def show(
    org: str,
    /,
    *,
    on: Server = SERVER,
) -> None:
    """Show one organization, by slug or id."""
    output.print_object(on.api().call("GET", at("organizations", org)), json=on.json)


@app.command
def delete(
    org: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", help="Really; there is no way back.")] = False,
    on: Server = SERVER,
) -> None:
    """Delete an organization with everything in it."""
    if not yes:
        loss = f"this deletes {org}, its channels, keys and history, for good"
        raise Misused(loss, "add --yes if you mean it")
    api = on.api()
    slug = api.call("GET", at("organizations", org))["slug"]
    job = api.call("DELETE", at("organizations", org), query={"confirm": slug})
    output.done(f"{slug} is deleted; its data goes in the background", job, json=on.json)
