"""`tocsin projects`: the parts of an organization that emit events."""

from typing import Annotated

from cyclopts import App, Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.errors import Misused
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, Organization

app = App(
    name="projects",
    help="""Projects: the parts of an organization that emit events.

Without a command: list them.

For example:

    tocsin projects create "iOS app" --slug ios --org acme
    tocsin projects --org acme
""",
)

COLUMNS = {"id": "id", "slug": "slug", "name": "name", "created_at": "created"}


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List projects."""
    api, org = on.place()
    path = at("organizations", org, "projects")
    empty = f"no projects in {org} yet; `tocsin projects create NAME` makes one"
    print_list(api, path, listed, COLUMNS, json=on.json, empty=empty)


@app.command
def create(
    name: str,
    /,
    *,
    slug: Annotated[str | None, Parameter(help="Its name in URLs; made from NAME else.")] = None,
    on: Organization = ORGANIZATION,
) -> None:
    """Create a project."""
    api, org = on.place()
    body = {"name": name} | ({"slug": slug} if slug is not None else {})
    made = api.call("POST", at("organizations", org, "projects"), body)
    output.print_object(made, json=on.json)


@app.command
def show(
    project: str,
    /,
    *,
    on: Organization = ORGANIZATION,
) -> None:
    """Show one project, by slug or id."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "projects", project))
    output.print_object(found, json=on.json)


@app.command
def delete(
    project: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", help="Really; there is no way back.")] = False,
    on: Organization = ORGANIZATION,
) -> None:
    """Delete a project and its channels; its history stays until retention."""
    if not yes:
        raise Misused(f"this deletes {project} and its channels", "add --yes if you mean it")
    api, org = on.place()
    api.call("DELETE", at("organizations", org, "projects", project))
    output.done(f"{project} is deleted", None, json=on.json)
