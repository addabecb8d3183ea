"""What a release asks of PostgreSQL, written down, so that a later schema can be asked the same.

`python -m tests.storage.recording FILE`, run from the tree of that release, serves a small day of
work on a database of its schema: publishing, retries, claims, changes to channels, lists. Every
statement that goes to the server is noted with its arguments, and what stands in the tables at the
end. `tests/storage/test_previous.py` sends it all to a database of today's schema.
"""

import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from tests import postgres
from tests.blackbox.receiver import Receiver, in_turn, reply
from tests.blackbox.server import Server, Tenant

BYTES = "base64"
DATA_TABLES = ("organizations", "keys", "channels", "lanes", "events", "deliveries", "attempts")
ENV_FILE = "RECORDING_OF_STATEMENTS"
COMMAND = (sys.executable, "-m", "tests.storage.recording", "serve")


def plain(value: Any) -> Any:
    """An argument as JSON has it."""
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


class Listened:
    """A prepared statement that tells with what it is run."""

    def __init__(self, statement: Any, note: Callable[[Any], None]) -> None:
        self._statement = statement
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statement, name)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        found = await self._statement.fetch(*args, **options)
        self._note(args)
        return found


def serve(path: Path) -> None:
    """Run the release's own command line with an ear on every connection it opens."""
    from tocsin.cli import main
    from tocsin.storage.postgres.session import Sessions

    opened = Sessions.open
    connections: list[Any] = []
    file = path.open("a")

    def tell(connection: Any, query: str, args: Any) -> None:
        file.write(json.dumps([connections.index(connection), query, plain(args)]) + "\n")
        file.flush()

    class Listening(asyncpg.Connection):
        async def prepare(self, query: str, **options: Any) -> Any:
            statement = await super().prepare(query, **options)
            return Listened(statement, lambda args: tell(self, query, args))

    async def listened(self: Sessions, **options: Any) -> Any:
        self._class = Listening
        connection = await opened(self, **options)
        connections.append(connection)

        def note(said: Any) -> None:
            if said.exception is None:
                tell(connection, said.query, said.args)

        connection.add_query_logger(note)
        return connection

    Sessions.open = listened  # type: ignore[method-assign]
    sys.argv = ["tocsin", "serve"]
    main()


def work(tenant: Tenant, receiver: Receiver) -> None:
    """A little of everything that a node does all day."""
    failing = in_turn(reply(500), reply(204))
    quick = tenant.channel(receiver.url("/quick"), event_types=["a.*"])["id"]
    slow = tenant.channel(
        receiver.url("/slow", failing), event_types=["b.*"], retry={"schedule": ["1s", "1s"]}
    )["id"]
    ordered = tenant.channel(receiver.url("/ordered"), event_types=["c.*"], ordered=True)["id"]
    for name in ("a.one", "b.one", "c.one", "c.two", "none.such"):
        tenant.publish(name, {"n": 1}, idempotency_key=f"key-{name}")
    tenant.publish("a.one", {"n": 1}, idempotency_key="key-a.one")
    tenant.publish_batch([{"type": "a.two", "data": n} for n in range(5)])
    receiver.wait(6, "/quick", seconds=60)
    receiver.wait(2, "/slow", seconds=60)
    receiver.wait(2, "/ordered", seconds=60)
    tenant.change(slow, enabled=False)
    waits = tenant.publish("b.two", {"n": 2})
    tenant.change(slow, enabled=True)
    tenant.settled(waits["id"], "delivered", seconds=60)
    for path in ("/events", "/deliveries", "/channels", "/keys", "/audit"):
        list(tenant.all(path))
    again = tenant.call("POST", f"/deliveries/{tenant.deliveries(waits['id'])[0]['id']}/retry")
    assert again.status < 300, again
    receiver.wait(4, "/slow", seconds=60)
    tenant.get(f"/channels/{quick}")
    tenant.call("DELETE", f"/channels/{ordered}")
    time.sleep(1)  # a beat, a look for due work


def contents(database: str) -> dict[str, Any]:
    """What stands in the tables, without what another run has otherwise."""
    return {
        table: sorted(
            (plain(dict(row)) for row in rows_of(database, table)),
            key=lambda row: json.dumps(row, sort_keys=True),
        )
        for table in DATA_TABLES
    }


def rows_of(database: str, table: str) -> list[dict[str, Any]]:
    found = postgres.server().command(f"SELECT * FROM {table}", database)
    return [{name: plain(value) for name, value in row.items()} for row in found]


def main(path: Path) -> None:
    """Record the release that is imported here."""

    folder = Path(tempfile.mkdtemp())
    calls = folder / "calls"
    os.environ[ENV_FILE] = str(calls)
    server = Server(folder / "data", {"requests_per_minute": 0}, command=COMMAND, store="postgres")
    try:
        server.start()
        with Receiver() as receiver:
            work(server.tenant("recorded"), receiver)
        assert server.stop() == 0, server.said()
        found = [json.loads(line) for line in calls.read_text().splitlines()]
        texts = sorted({query for _, query, _ in found})
        place = {query: at for at, query in enumerate(texts)}
        (day,) = postgres.server().command("SELECT (extract(epoch FROM now()) / 86400)::int AS day")
        recorded = {
            "day": day["day"],
            "statements": texts,
            "calls": [[number, place[query], args] for number, query, args in found],
            "tables": contents(server.database),
        }
        lines = ",\n".join(f' "{name}": {json.dumps(v)}' for name, v in recorded.items())
        path.write_text("{\n" + lines + "\n}\n")
    finally:
        server.close()
        postgres.close_server()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(os.environ[ENV_FILE]))
    else:
        main(Path(sys.argv[1]))
