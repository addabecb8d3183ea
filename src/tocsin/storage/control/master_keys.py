"""Which master keys have sealed something here: their fingerprints, never the keys."""

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.storage.tables import meta

KEY = "master_keys"


def fingerprints(connection: Connection) -> list[str]:
    """Fingerprints of every key that may have sealed something; empty in a new database."""
    text = connection.scalar(sa.select(meta.c.value).where(meta.c.key == KEY))
    return [] if text is None else msgspec.json.decode(text, type=list[str])


def remember(connection: Connection, fingerprint: str) -> None:
    """From now on this key seals."""
    known = fingerprints(connection)
    if fingerprint not in known:
        connection.execute(sa.delete(meta).where(meta.c.key == KEY))
        text = msgspec.json.encode([*known, fingerprint]).decode()
        connection.execute(sa.insert(meta).values(key=KEY, value=text))
