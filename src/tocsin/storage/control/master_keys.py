"""Which master keys have sealed something here: their fingerprints, never the keys; and the
sealed blobs themselves, for what seals them anew."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from tocsin.domain.errors import Unavailable
from tocsin.storage.tables import channels, meta, organizations

KEY = "master_keys"
TARGET = "master_key_target"
RETRY_SECONDS = 60


class Sealed(Struct, frozen=True):
    """One sealed blob, and whose it is."""

    channel_id: str
    organization_id: str
    blob: bytes


def fingerprints(connection: Connection) -> list[str]:
    """Fingerprints of every key that may have sealed something; empty in a new database."""
    text = connection.scalar(sa.select(meta.c.value).where(meta.c.key == KEY))
    return [] if text is None else msgspec.json.decode(text, type=list[str])


def remember(connection: Connection, fingerprint: str) -> None:
    """From now on this key seals."""
    known = fingerprints(connection)
    if fingerprint not in known:
        connection.execute(sa.delete(meta).where(meta.c.key == KEY))
        _put(connection, KEY, msgspec.json.encode([*known, fingerprint]).decode())


def check_sealing(connection: Connection, fingerprint: str) -> None:
    """Raise Unavailable while everything is being sealed anew under another key than this."""
    # Shared with other changes, not with `begin`: whatever is sealed under an old key is committed
    # before it, and is found by the walk that follows.
    connection.execute(
        sa.select(meta.c.key).where(meta.c.key == KEY).with_for_update(read=True)
    ).all()
    target = _target(connection)
    if target not in (None, fingerprint):
        raise Unavailable(
            "The master key is being rotated to another one than this server seals with: "
            f"start it with the key that has the fingerprint {target} first.",
            RETRY_SECONDS,
        )


def begin(connection: Connection, fingerprint: str) -> None:
    """From now on only this key seals, on all nodes, until `finish`."""
    connection.execute(sa.select(meta.c.key).where(meta.c.key == KEY).with_for_update()).all()
    remember(connection, fingerprint)
    connection.execute(sa.delete(meta).where(meta.c.key == TARGET))
    _put(connection, TARGET, fingerprint)


def finish(connection: Connection, fingerprint: str) -> bool:
    """Forget all keys but this one, under which everything is; False when somebody has begun
    another rotation meanwhile."""
    connection.execute(sa.select(meta.c.key).where(meta.c.key == KEY).with_for_update()).all()
    if _target(connection) != fingerprint:
        return False
    connection.execute(sa.delete(meta).where(meta.c.key.in_((KEY, TARGET))))
    _put(connection, KEY, msgspec.json.encode([fingerprint]).decode())
    return True


def count(connection: Connection) -> int:
    """How many blobs there are."""
    return connection.scalar(sa.select(sa.func.count()).where(*_LIVE)) or 0


def walk(connection: Connection, *, above: str, limit: int) -> list[Sealed]:
    """Blobs of all organizations, in order of their channels' ids."""
    rows = connection.execute(
        sa.select(channels.c.id, channels.c.organization_id, channels.c.sealed)
        .where(channels.c.id > above, *_LIVE)
        .order_by(channels.c.id)
        .limit(limit)
    )
    return [Sealed(row.id, row.organization_id, bytes(row.sealed)) for row in rows]


def replace(connection: Connection, changed: Sequence[tuple[Sealed, bytes]]) -> int:
    """Store the new blob of each that is still as it was read; returns how many were.

    What is stored of a channel keeps its version: nothing of it has changed for anybody.
    """
    # The organizations first, in order, as every change of a channel locks its own.
    owners = sorted({one.organization_id for one, _ in changed})
    connection.execute(
        sa.select(organizations.c.id)
        .where(organizations.c.id.in_(owners))
        .order_by(organizations.c.id)
        .with_for_update()
    ).all()
    return sum(
        connection.execute(
            sa.update(channels)
            .where(channels.c.id == one.channel_id, channels.c.sealed == one.blob)
            .values(sealed=blob)
        ).rowcount
        for one, blob in changed
    )


_LIVE = (channels.c.deleted_at.is_(None), sa.func.length(channels.c.sealed) > 0)


def _target(connection: Connection) -> str | None:
    return connection.scalar(sa.select(meta.c.value).where(meta.c.key == TARGET))


def _put(connection: Connection, key: str, value: str) -> None:
    connection.execute(sa.insert(meta).values(key=key, value=value))
