"""`tocsin keys`: the credentials of an organization."""

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, Organization

app = App(
    name="keys",
    help="""Keys: the credentials of an organization.

Without a command: list them.

For example:

    tocsin keys create ci --org acme
    tocsin keys create ios --org acme --project ios
    tocsin keys create bi --org acme --role viewer
    tocsin keys create robot --org acme --permission event.publish
""",
)

COLUMNS = {
    "id": "id",
    "name": "name",
    "token_prefix": "begins with",
    "role": "role",
    "permissions": "permissions",
    "project_id": "project",
    "last_used_at": "last used",
    "expires_at": "expires",
}


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List keys; tokens are never shown again."""
    api, org = on.place()
    empty = f"no keys in {org} yet; `tocsin keys create NAME` makes one"
    print_list(api, at("organizations", org, "keys"), listed, COLUMNS, json=on.json, empty=empty)


@app.command
def create(
    name: str,
    /,
    *,
    role: Literal["admin", "developer", "viewer"] | None = None,
    permission: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    project: Annotated[str | None, Parameter(name=("--project", "-p"))] = None,
    expires_at: str | None = None,
    bare: Annotated[bool, Parameter(negative="")] = False,
    on: Organization = ORGANIZATION,
) -> None:
    """Create a key and print its token, this once.

    Parameters
    ----------
    name
        What it is for.
    role
        What it may do; default developer, unless permissions are given.
    permission
        A grant like event.publish or channel.*, beside the role; may be
        repeated.
    project
        Bind it to one project, by slug or id.
    expires_at
        When it ends, like 2027-01-01T00:00:00Z
    bare
        Print the token and nothing else: KEY=$(tocsin keys create ci --bare)
    """
    body: dict[str, Any] = {"name": name}
    body |= {"role": role} if role else {}
    body |= {"permissions": list(permission)} if permission else {}
    body |= {"project": project} if project else {}
    body |= {"expires_at": expires_at} if expires_at else {}
    api, org = on.place()
    made = api.call("POST", at("organizations", org, "keys"), body)
    if bare:
        print(made["token"])
        return
    output.print_object(made, json=on.json)
    if not on.json:
        output.print_hint("keep the token now: it is not shown again")


@app.command
def delete(
    key: str,
    /,
    *,
    on: Organization = ORGANIZATION,
) -> None:
    """Revoke a key by its id, at once."""
    api, org = on.place()
    api.call("DELETE", at("organizations", org, "keys", key))
    output.done(f"{key} is revoked", None, json=on.json)
