"""`tocsin channels`: where events are delivered to."""

import json as json_module
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from tocsin.cli import jobs, output
from tocsin.cli.client import at
from tocsin.cli.errors import FAILED, Misused
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.server import ORGANIZATION, Organization
from tocsin.domain.retry import parse_duration

app = App(
    name="channels",
    help="""Channels: where events are delivered to.

Without a command: list them.

For example:

    tocsin channels create ci --org acme --to https://ci.example.com/hook
    tocsin channels create ci -o acme --to https://… --event-type 'build.*'
    tocsin channels test 64f0… --org acme
    tocsin channels secret 64f0… --org acme
    tocsin channels rotate-secret 64f0… --org acme --overlap 1d
    tocsin channels disable 64f0… --org acme
    tocsin channels recover 64f0… --since 2026-11-20T00:00:00Z --org acme
""",
)

COLUMNS = {
    "id": "id",
    "name": "name",
    "type": "type",
    "project_id": "project",
    "event_types": "events",
    "status": "status",
    "error_count": "errors",
    "last_sent_at": "last sent",
    "last_error": "last error",
}


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List channels."""
    api, org = on.place()
    empty = f"no channels in {org} yet; `tocsin channels create NAME --to URL` makes one"
    path = at("organizations", org, "channels")
    print_list(api, path, listed, COLUMNS, json=on.json, empty=empty)


@app.command
def create(
    name: str,
    /,
    *,
    to: str | None = None,
    type: str = "webhook",
    settings: str | None = None,
    project: Annotated[str | None, Parameter(name=("--project", "-p"))] = None,
    event_type: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    format: str | None = None,
    retry: str | None = None,
    more: str | None = None,
    on: Organization = ORGANIZATION,
) -> None:
    """Create a channel; a webhook's signing secret is printed with it.

    Parameters
    ----------
    name
        What it is called.
    to
        Where a webhook goes; the short form of --settings '{"url": …}'
    type
        The channel type.
    settings
        The type's settings, as a JSON object.
    project
        Only events of this project; else of the whole organization.
    event_type
        Which events, like build.created or build.*; may be repeated;
        default all.
    format
        The body of a webhook: tocsin, cloudevents, applivery, hookstream.
    retry
        The waits between attempts, like 5s,5m,1h
    more
        Any other fields of the API, as a JSON object.
    """
    body: dict[str, Any] = {"name": name, "type": type, "settings": {}}
    body["settings"] |= _object(settings, "--settings") | ({"url": to} if to else {})
    if not body["settings"]:
        raise Misused("where to?", "give --to URL, or --settings '{…}'")
    body |= {"project": project} if project else {}
    body |= {"event_types": list(event_type)} if event_type else {}
    body |= {"format": format} if format else {}
    body |= {"retry": {"schedule": [s for s in retry.split(",") if s]}} if retry is not None else {}
    api, org = on.place()
    made = api.call("POST", at("organizations", org, "channels"), body | _object(more, "--more"))
    output.print_object(made, json=on.json)
    if not on.json:
        output.print_hint(f"next: tocsin channels test {made['id']} --org {org}")


@app.command
def show(channel: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Show one channel, secrets masked."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "channels", channel))
    output.print_object(found, json=on.json)


@app.command
def update(
    channel: str,
    fields: str,
    /,
    *,
    on: Organization = ORGANIZATION,
) -> None:
    """Change a channel by a JSON object of the API's fields.

    For example:

        tocsin channels update 64f0… '{"event_types": ["build.*"]}'
    """
    change = _object(fields, "FIELDS")
    api, org = on.place()
    changed = api.call("PATCH", at("organizations", org, "channels", channel), change)
    output.print_object(changed, json=on.json)


@app.command
def enable(
    channel: str,
    /,
    *,
    cancel_backlog: Annotated[
        bool, Parameter(negative="", help="Drop what has waited, instead of sending it.")
    ] = False,
    on: Organization = ORGANIZATION,
) -> None:
    """Enable a channel; what has waited for it is sent, oldest first."""
    api, org = on.place()
    change: dict[str, Any] = {"enabled": True}
    change |= {"backlog": "cancel"} if cancel_backlog else {}
    changed = api.call("PATCH", at("organizations", org, "channels", channel), change)
    output.done(f"{channel} is {changed['status']}", changed, json=on.json)


@app.command
def disable(channel: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Disable a channel; events for it are kept waiting."""
    api, org = on.place()
    path = at("organizations", org, "channels", channel)
    changed = api.call("PATCH", path, {"enabled": False})
    output.done(f"{channel} is disabled; its deliveries wait", changed, json=on.json)


@app.command(name="test")
def send_test(channel: str, /, *, on: Organization = ORGANIZATION) -> int:
    """Send a test through a channel now; exits 1 if it did not arrive."""
    api, org = on.place()
    answer = api.call("POST", at("organizations", org, "channels", channel, "test"))
    attempt = answer["attempt"]
    outcome = attempt["error"] or f"status {attempt['status_code']}"
    word = "arrived" if answer["success"] else "failed"
    output.done(f"{word} in {attempt['duration_ms']} ms: {outcome}", answer, json=on.json)
    return 0 if answer["success"] else FAILED


@app.command
def secret(channel: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Print a webhook's signing secret, for its receiver."""
    api, org = on.place()
    answer = api.call("GET", at("organizations", org, "channels", channel, "secret"))
    _print_keys(answer, json=on.json)


@app.command
def rotate_secret(channel: str, /, *, overlap: str = "1d", on: Organization = ORGANIZATION) -> None:
    """Make a new signing secret and print it; the old one signs on for a while.

    Parameters
    ----------
    overlap
        How long both sign, like 90s, 12h or 7d; with 0 the old one signs
        nothing any more.
    """
    duration_ms = 0 if overlap == "0" else parse_duration(overlap)
    if duration_ms is None:
        raise Misused(f"--overlap {overlap} is no duration", "write it like 90s, 30m, 12h, 7d or 0")
    api, org = on.place()
    path = at("organizations", org, "channels", channel, "rotate-secret")
    answer = api.call("POST", path, {"overlap_seconds": duration_ms // 1000})
    _print_keys(answer, json=on.json)
    if not on.json:
        ends = f"sign for {overlap} more" if duration_ms else "sign no more"
        output.print_hint(f"give it to the receiver; the old secrets {ends}")


@app.command
def recover(
    channel: str,
    /,
    *,
    since: str,
    until: str | None = None,
    status: Annotated[tuple[Literal["exhausted", "rejected"], ...], Parameter(negative="")] = (),
    wait: Annotated[bool, Parameter(negative="")] = False,
    on: Organization = ORGANIZATION,
) -> int:
    """Send once more what a channel did not take.

    A job does it: on a terminal its progress is shown, and Ctrl-C leaves
    it at work. `tocsin jobs cancel` stops it.

    Parameters
    ----------
    since
        Deliveries created at or after this time.
    until
        And before this one; default: now.
    status
        Only exhausted or only rejected ones; may be repeated; default both.
    wait
        Wait for the job's end where there is no terminal, too.
    """
    body: dict[str, Any] = {"since": since}
    body |= {"until": until} if until is not None else {}
    body |= {"statuses": list(status)} if status else {}
    api, org = on.place()
    job = api.call("POST", at("organizations", org, "channels", channel, "recover"), body)
    if wait or (not on.json and output.console(stderr=True).is_terminal):
        return jobs.say_end(jobs.follow(api, org, job, quiet=on.json), json=on.json)
    output.print_object(job, json=on.json)
    if not on.json:
        output.print_hint(f"next: tocsin jobs watch {job['id']} --org {org}")
    return 0


@app.command
def delete(channel: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Delete a channel; what waits for it is cancelled."""
    api, org = on.place()
    api.call("DELETE", at("organizations", org, "channels", channel))
    output.done(f"{channel} is deleted", None, json=on.json)


def _print_keys(answer: dict[str, Any], *, json: bool) -> None:
    output.done(answer["secret"], answer, json=json)
    if "public_key" in answer and not json:
        output.print_line(answer["public_key"])


def _object(text: str | None, name: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json_module.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misused(f"{name} is no JSON: {error}", "quote it for the shell: '{…}'") from None
    if not isinstance(value, dict):
        raise Misused(f"{name} is no JSON object", """write it like '{"url": "https://…"}'""")
    return value
