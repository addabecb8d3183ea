"""Which server a command speaks to, as whom, and about which organization."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from tocsin.cli.address import URL_FILE, address
from tocsin.cli.client import Api, at
from tocsin.cli.errors import CommandFailed, Misused

TOKEN_FILE = "operator-token"  # noqa: S105 - the name of a file

GROUP = Group("Server", sort_key=20)


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """The options of every command that speaks to a running server."""

    url: Annotated[
        str | None,
        Parameter(env_var="TOCSIN_URL", group=GROUP, help="The server; default: the one here."),
    ] = None
    token: Annotated[
        str | None,
        Parameter(
            env_var="TOCSIN_TOKEN", group=GROUP, help="A key's token, or the operator token."
        ),
    ] = field(default=None, repr=False)
    data_dir: Annotated[
        Path | None,
        Parameter(
            env_var="TOCSIN_DATA_DIR",
            group=GROUP,
            help="Data directory of the server here; default: its setting.",
        ),
    ] = None
    json: Annotated[
        bool, Parameter(negative="", group=GROUP, help="Print JSON, as the API gives it.")
    ] = False

    def api(self) -> Api:
        """The way to the server; on its own machine both come from its data directory.

        The operator token found there is sent to no other server than the one that wrote it.
        """
        if self.url and self.token is not None:
            return Api(self.url, self.token)
        folder = self.data_dir or _data_dir()
        local_url = _address(folder)
        url = self.url or local_url
        if url is None:
            raise CommandFailed(
                f"no server runs from {folder}",
                "start one with `tocsin serve`, or name one with --url and --token",
            )
        token = self.token
        if token is None and url.rstrip("/") == local_url:
            token = _read(folder / TOKEN_FILE)
        if token is None:
            hint = "say --token, or set TOCSIN_TOKEN, to a key or the operator token"
            raise Misused(f"no token for {url}", hint)
        return Api(url, token)


@Parameter(name="*")
@dataclass(frozen=True)
class Organization(Server):
    """The same, about one organization."""

    org: Annotated[
        str | None,
        Parameter(
            name=("--org", "-o"),
            env_var="TOCSIN_ORG",
            group=GROUP,
            help="Organization, by slug or id; default: the only one.",
        ),
    ] = None

    def place(self) -> tuple[Api, str]:
        """The way to the server, and the organization's id or slug."""
        api = self.api()
        return api, self.org or only_organization(api)


SERVER = Server()
ORGANIZATION = Organization()
"""What a command speaks to when nothing is said; both are frozen."""


def only_organization(api: Api) -> str:
    """The organization nobody named: the only one, if this credential may see that."""
    hint = "name it with --org, or set TOCSIN_ORG"
    try:
        found = api.call("GET", at("organizations"), query={"limit": 10})["data"]
    except CommandFailed as failure:
        if "(403)" in failure.message:
            raise Misused("which organization? a key can't list them", hint) from None
        raise
    if not found:
        raise CommandFailed("there is no organization yet", "`tocsin orgs create NAME` makes one")
    if len(found) > 1:
        some = ", ".join(one["slug"] for one in found)
        raise Misused(f"which organization? there are {some}", hint)
    return str(found[0]["slug"])


def _data_dir() -> Path:
    # Imported only here: with --url and --token no setting is needed.
    from tocsin.cli.settings import load_settings

    return load_settings().data_dir


def _address(folder: Path) -> str | None:
    try:
        return address(folder)
    except OSError as error:
        raise _unreadable(folder / URL_FILE, error) from None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> CommandFailed:
    return CommandFailed(
        f"can't read {path}: {error.strerror}",
        "run this as the user that runs the server, or say --url and --token",
    )
