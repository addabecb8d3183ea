"""`tocsin doctor`: look at what usually goes wrong, and say what to do about it."""

import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from tocsin.cli import output
from tocsin.cli.client import Api, at
from tocsin.cli.errors import FAILED, CommandFailed
from tocsin.cli.server import TOKEN_FILE, URL_FILE
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.config import Settings
from tocsin.domain.text import visible

State = Literal["good", "note", "bad"]
MARKS: dict[State, tuple[str, str]] = {
    "good": ("✔", "green"),
    "note": ("!", "yellow"),
    "bad": ("✘", "bold red"),
}
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Finding:
    """What one look found, and what to do if it is not good."""

    state: State
    what: str
    hint: str = ""


def doctor(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
    flags: Flags = NO_FLAGS,
) -> int:
    """Check settings, files and server; say what to repair.

    Changes nothing. Ends with 1 if something is wrong.

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


def examine(settings: Settings) -> Iterator[Finding]:
    """Every look, in the order in which a start would stumble."""
    yield Finding("good", "the settings are valid")
    yield from _exposure(settings)
    if not settings.data_dir.is_dir():
        hint = "`tocsin serve` makes it; or name another one with --data-dir"
        yield Finding("note", f"there is no data directory {settings.data_dir} yet", hint)
        return
    yield from _files(settings)
    yield from _disk(settings)
    yield from _server(settings)


def _exposure(settings: Settings) -> Iterator[Finding]:
    try:
        local = ip_address(settings.host).is_loopback
    except ValueError:
        local = settings.host == "localhost"
    if not local and not settings.public_url.startswith("https://"):
        yield Finding(
            "note",
            f"it listens on {settings.host}, where others can reach it without TLS",
            "put a proxy with TLS before it and set TOCSIN_PUBLIC_URL to its https address",
        )
    if any(network.prefixlen == 0 for network in settings.allow_networks):
        yield Finding(
            "note",
            "TOCSIN_ALLOW_NETWORKS lets every address through: tenants reach your own network",
            "list only the networks that deliveries have to reach",
        )


def _files(settings: Settings) -> Iterator[Finding]:
    private = [settings.data_dir, settings.sqlite_path.parent]
    private += [settings.data_dir / name for name in ("master-key", TOKEN_FILE, URL_FILE)]
    private += [Path(f"{settings.sqlite_path}{end}") for end in ("", "-wal", "-shm", ".lock")]
    open_ones = [path for path in dict.fromkeys(private) if path.exists() and _mode(path) & 0o077]
    for path in open_ones:
        right = "700" if path.is_dir() else "600"
        yield Finding("bad", f"others may read {path}", f"chmod {right} {path}")
    if not open_ones:
        yield Finding("good", f"{settings.data_dir} is private")
    if settings.sqlite_path.exists() and settings.master_key is None:
        if (settings.data_dir / "master-key").exists():
            yield Finding("good", "the master key is there")
        else:
            hint = "put the file back from a backup, or set TOCSIN_MASTER_KEY"
            yield Finding("bad", f"{settings.data_dir / 'master-key'} is missing", hint)


def _disk(settings: Settings) -> Iterator[Finding]:
    free_mb = shutil.disk_usage(settings.sqlite_path.parent).free // MEGABYTE
    if free_mb > 2 * settings.disk_reserve_mb:
        yield Finding("good", f"{free_mb:,} MB are free on the disk")
        return
    below = free_mb <= settings.disk_reserve_mb
    yield Finding(
        "bad" if below else "note",
        f"only {free_mb:,} MB are free; publishing stops below {settings.disk_reserve_mb} MB",
        "make room on the disk of the data directory",
    )


def _server(settings: Settings) -> Iterator[Finding]:
    try:
        url = (settings.data_dir / URL_FILE).read_text().strip()
    except OSError:
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
    if settings.operator_token is not None:
        token = settings.operator_token.get_secret_value().split(",")[0].strip()
    else:
        token = (settings.data_dir / TOKEN_FILE).read_text().strip()
    try:
        Api(url, token).call("GET", at("organizations"), query={"limit": 1})
        yield Finding("good", "the operator token is valid")
    except CommandFailed as failure:
        hint = "the server was started with another TOCSIN_OPERATOR_TOKEN: use that one"
        yield Finding("bad", f"the operator token is refused: {failure.message}", hint)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def show(findings: list[Finding]) -> None:
    """The findings for people."""
    out = output.console()
    for one in findings:
        out.print(Text.assemble(MARKS[one.state], " ", visible(one.what)), soft_wrap=True)
        if one.hint:
            out.print(Text(f"  {visible(one.hint)}", "dim"), soft_wrap=True)
