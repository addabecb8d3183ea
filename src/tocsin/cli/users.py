"""`tocsin users`: people who sign in."""

from typing import Any, Literal

from cyclopts import App

from tocsin.cli import output
from tocsin.cli.client import Api, at
from tocsin.cli.errors import CommandFailed
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, SERVER, Organization, Server

app = App(
    name="users",
    help="""Users: people who sign in.

Without a command: list them. Passwords are never given here: whoever opens
the link that a command prints chooses one. A link works once, for 15 minutes.

For example:

    tocsin users create ann@example.com --org acme --role admin
    tocsin users invite bob@example.com --org acme --role viewer
    tocsin users reset ann@example.com
""",
)

COLUMNS = {
    "id": "id",
    "email": "e-mail",
    "name": "name",
    "has_password": "has a password",
    "created_at": "created",
}

Role = Literal["admin", "developer", "viewer"]


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Server = SERVER,
) -> None:
    """List accounts; needs the operator token."""
    empty = "no users yet; `tocsin users create EMAIL` makes one"
    print_list(on.api(), at("users"), listed, COLUMNS, json=on.json, empty=empty)


@app.command
def create(
    email: str,
    /,
    *,
    name: str | None = None,
    role: Role | None = None,
    on: Organization = ORGANIZATION,
) -> None:
    """Create an account and print the link by which its owner signs in first.

    Parameters
    ----------
    email
        The address to sign in with.
    name
        What people are called; made from the address else.
    role
        What they may do in the organization; without it they are in none.
    """
    body: dict[str, Any] = {"email": email}
    body |= {"name": name} if name else {}
    if role:
        api, org = on.place()
        body |= {"organization": org, "role": role}
    else:
        api = on.api()
    made = api.call("POST", at("users"), body)
    _print_link(made, made["link"], json=on.json)


@app.command
def invite(
    email: str,
    /,
    *,
    role: Role = "developer",
    on: Organization = ORGANIZATION,
) -> None:
    """Invite somebody into an organization and print the link to give them.

    Parameters
    ----------
    email
        Their address; who has an account already gives its password.
    role
        What they may do.
    """
    api, org = on.place()
    made = api.call("POST", at("organizations", org, "members"), {"email": email, "role": role})
    _print_link(made, made, json=on.json)


@app.command
def reset(
    user: str,
    /,
    *,
    on: Server = SERVER,
) -> None:
    """Print a link by which somebody chooses a new password.

    Until then the old one is good. Afterwards all their sessions have ended.

    Parameters
    ----------
    user
        Their e-mail address or id.
    """
    api = on.api()
    made = api.call("POST", at("users", _id(api, user), "reset"))
    _print_link(made, made, json=on.json)


def _id(api: Api, user: str) -> str:
    """The id of a user; an address is looked for in the list."""
    if "@" not in user:
        return user
    wanted = user.lower()
    for page in api.pages(at("users"), {}):
        for one in page["data"]:
            if one["email"] == wanted:
                return str(one["id"])
    raise CommandFailed(f"there is no account of {user}", "`tocsin users` lists them")


def _print_link(reply: Any, link: Any, *, json: bool) -> None:
    if json:
        output.print_json(reply)
        return
    output.print_line(link["url"])
    output.print_hint(f"give it to {link['email']}: it works once, until {link['expires_at']}")
