"""`tocsin rotate-master-key`: everything sealed anew under the first master key."""

import time
from typing import Any

from tocsin.cli import output
from tocsin.cli.errors import CommandFailed
from tocsin.cli.progress import steps_bar
from tocsin.cli.server import SERVER, Server

CALL = "/api/v1/master-key/rotate"
LOOK_SECONDS = 0.2


def rotate_master_key(*, on: Server = SERVER) -> None:
    """Seal every secret anew under the first master key; needs the operator token.

    Start the server (all nodes of it) with both keys, the new one first:
    TOCSIN_MASTER_KEY=new,old. Then run this; the server goes on with
    everything else. When it ends nothing is sealed under the old key any more,
    and the next start needs the new one alone. What was interrupted goes on
    when it is run again. docs/operating.md has the whole procedure.

    For example:

        tocsin rotate-master-key
        tocsin rotate-master-key --json
    """
    api = on.api()
    state: dict[str, Any] = api.call("POST", CALL)
    began = state["started_at"]
    with steps_bar("sealing", quiet=on.json) as told:
        while state["status"] == "running":
            told(state["done"], state["total"])
            time.sleep(LOOK_SECONDS)
            latest = api.call("GET", CALL)["latest"]
            if latest is None or latest["started_at"] != began:
                raise CommandFailed("the server has begun anew meanwhile", "repeat the command")
            state = latest
        told(state["done"], state["total"])
    if state["status"] != "done":
        raise CommandFailed(
            f"the rotation has failed: {state['error']}", "repeat the command; it goes on"
        )
    sentence = (
        f"{state['total']:,} channels are sealed under the key {state['fingerprint']} alone, "
        f"{state['resealed']:,} of them anew"
    )
    output.done(sentence, state, json=on.json)
    if on.json:
        return
    if state["unreadable"]:
        output.print_hint(
            f"{state['unreadable']:,} open under none of the keys: their settings must be set again"
        )
    output.print_hint("from now on give the server the new key alone; old backups need the old one")
