"""What only one node does at a time: each duty is a row with the node that has it, and until when.

A duty is free again when its time has passed, or when its node is gone: both on the database's
clock. Where there is no server, and so one node, its only process's storage time is that clock.
"""

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.storage.tables import nodes
from tocsin.storage.watch_tables import duties

_SERVER_MS: ColumnElement[int] = sa.cast(
    sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger
)


def take(connection: Connection, name: str, *, node: int, lasts_ms: int, now_ms: int) -> bool:
    """Take a duty that is free, or keep one's own for longer; False when another node has it.

    `now_ms` is storage time.
    """
    server = connection.dialect.name == "postgresql"
    insert = postgresql.insert if server else sqlite.insert
    now: ColumnElement[int] = _SERVER_MS if server else sa.literal(now_ms, sa.BigInteger)
    lives = sa.exists().where(nodes.c.number == duties.c.node, nodes.c.lease_until_ms > now)
    taken = insert(duties).values(name=name, node=node, until_ms=now + lasts_ms)
    answer = connection.execute(
        taken.on_conflict_do_update(
            index_elements=[duties.c.name],
            set_={"node": taken.excluded.node, "until_ms": taken.excluded.until_ms},
            where=sa.or_(duties.c.node == node, duties.c.until_ms <= now, sa.not_(lives)),
        ).returning(duties.c.node)
    )
    return answer.first() is not None


def give_up(connection: Connection, *, node: int) -> None:
    """Leave all duties of a node to whoever comes first."""
    connection.execute(sa.delete(duties).where(duties.c.node == node))
