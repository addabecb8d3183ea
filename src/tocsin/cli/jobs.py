"""`tocsin jobs`: work in the background that people start, watch and stop."""

import time
from typing import Any

from cyclopts import App

from tocsin.cli import output
from tocsin.cli.client import Api, at
from tocsin.cli.errors import FAILED
from tocsin.cli.listing import LISTED, Listed, print_list
from tocsin.cli.progress import steps_bar
from tocsin.cli.server import ORGANIZATION, Organization

LOOK_SECONDS = 0.5

app = App(
    name="jobs",
    help="""Jobs: work in the background, like the recovery of a channel.

Without a command: list them.

For example:

    tocsin channels recover 64f0… --since 2026-11-20T00:00:00Z
    tocsin jobs --org acme
    tocsin jobs watch 64f0… --org acme
    tocsin jobs cancel 64f0… --org acme
""",
)

COLUMNS = {
    "id": "id",
    "kind": "kind",
    "channel_id": "channel",
    "status": "status",
    "done": "done",
    "total": "of",
    "created_at": "created",
    "finished_at": "finished",
}


@app.default
@app.command(name="list")
def list_(
    *,
    listed: Listed = LISTED,
    on: Organization = ORGANIZATION,
) -> None:
    """List jobs, newest first."""
    api, org = on.place()
    path = at("organizations", org, "jobs")
    print_list(api, path, listed, COLUMNS, json=on.json, empty="no jobs yet")


@app.command(name=["get", "show"])
def get(job: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Show one job and how far it is."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "jobs", job))
    output.print_object(found, json=on.json)


@app.command
def watch(job: str, /, *, on: Organization = ORGANIZATION) -> int:
    """Wait for a job's end, with a bar on a terminal; exits 1 unless it is done."""
    api, org = on.place()
    found = api.call("GET", at("organizations", org, "jobs", job))
    return say_end(follow(api, org, found, quiet=on.json), json=on.json)


@app.command
def cancel(job: str, /, *, on: Organization = ORGANIZATION) -> None:
    """Stop a job; what it has done stays done."""
    api, org = on.place()
    api.call("DELETE", at("organizations", org, "jobs", job))
    output.done(f"{job} is cancelled", None, json=on.json)


def follow(api: Api, org: str, job: Any, *, quiet: bool) -> Any:
    """Wait for the end of a job that was just read; returns it as it ended."""
    path = at("organizations", org, "jobs", job["id"])
    with steps_bar("recovering", quiet=quiet) as told:
        while True:
            told(job["done"], job["total"])
            if job["status"] != "running":
                return job
            time.sleep(LOOK_SECONDS)
            job = api.call("GET", path)


def say_end(job: Any, *, json: bool) -> int:
    """Say how a job ended; the exit code."""
    total = job["total"] or 0
    sentence = f"{job['status']}: {job['done']:,} of {total:,} deliveries are on their way again"
    output.done(sentence, job, json=json)
    return 0 if job["status"] == "done" else FAILED
