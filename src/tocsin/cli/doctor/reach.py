"""What has to answer: the server itself, Slack's API and the mail server where they are used."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from tocsin import __version__
from tocsin.cli.address import address
from tocsin.cli.client import Api, at
from tocsin.cli.doctor.findings import Finding
from tocsin.cli.errors import CommandFailed
from tocsin.cli.operator import operator_token
from tocsin.config import ConfigError, Settings, mail_settings

CONNECT_SECONDS_MAX = 5.0


def targets(given: Settings) -> Iterator[Finding]:
    """Connects to what the settings name, sends nothing, and hangs up."""
    if given.slack_client_id:
        parts = urlsplit(given.slack_api_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        yield from _reach("Slack's API", parts.hostname or "", port, given)
    try:
        mail = mail_settings(given)
    except ConfigError:
        return
    if mail is not None:
        yield from _reach("the mail server", mail[0].host.strip("[]"), mail[0].port)


def _reach(what: str, host: str, port: int, judge: Settings | None = None) -> Iterator[Finding]:
    """`judge`: the guard against SSRF judges this one as it judges every target."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        yield Finding("bad", f"{what}: {host} is not found: {reason}", "check the name and DNS")
        return
    addresses = [str(one[4][0]) for one in found]
    if judge is not None and not _allowed(judge, addresses):
        yield Finding(
            "bad",
            f"{what}: {host} is an address inside networks, which the guard refuses",
            "list its network in TOCSIN_ALLOW_NETWORKS",
        )
        return
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS_MAX).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        hint = "check that this machine may connect there: firewall, proxy, the port"
        yield Finding("bad", f"{what} can't be reached at {host}:{port}: {reason}", hint)
        return
    yield Finding("good", f"{what} answers at {host}:{port}")


def _allowed(judge: Settings, addresses: list[str]) -> bool:
    from tocsin.net.errors import AddressRefused
    from tocsin.net.guard import Guard

    try:
        Guard(judge.allow_networks).check_all(addresses)
    except AddressRefused:
        return False
    return True


def server(given: Settings) -> Iterator[Finding]:
    """Asks the server that runs from the data directory."""
    try:
        url = address(given.data_dir)
    except OSError:
        url = None
    if url is None:
        yield Finding("note", "no server runs from this data directory", "`tocsin serve` runs it")
        return
    try:
        Api(url, "").call("GET", "/healthz")
    except CommandFailed as failure:
        hint = failure.hint or "look at the log of `tocsin serve`, and start it again"
        yield Finding("bad", failure.message, hint)
        return
    yield Finding("good", f"the server answers at {url}")
    try:
        Api(url, "").call("GET", "/readyz")
        yield Finding("good", "the server is ready: its database answers")
    except CommandFailed as failure:
        yield Finding("bad", f"the server is not ready: {failure.message}", "look at its log")
    if not given.serves:
        return  # it has no API that could be asked
    yield from _version(url)
    try:
        Api(url, operator_token(given)).call("GET", at("organizations"), query={"limit": 1})
        yield Finding("good", "the operator token is valid")
    except CommandFailed as failure:
        hint = "the server was started with another TOCSIN_OPERATOR_TOKEN: use that one"
        yield Finding("bad", f"the operator token is refused: {failure.message}", hint)


def _version(url: str) -> Iterator[Finding]:
    try:
        runs = str(Api(url, "").call("GET", "/api/openapi.json")["info"]["version"])
    except (CommandFailed, KeyError, TypeError):
        return
    if runs == __version__:
        yield Finding("good", f"the server is release {runs}, as this command is")
    else:
        hint = "restart the server, so that it runs what is installed"
        yield Finding("note", f"the server is release {runs}, this command {__version__}", hint)
