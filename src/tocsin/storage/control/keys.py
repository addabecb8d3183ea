"""Keys: who holds them and what they may do. The tokens themselves are never stored."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from tocsin.domain.errors import NotFound
from tocsin.domain.model import Key, KeyId, OrganizationId, ProjectId, Role
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import keys, organizations, projects

_COLUMNS = (
    keys.c.id,
    keys.c.organization_id,
    keys.c.project_id,
    keys.c.name,
    keys.c.role,
    keys.c.permissions,
    keys.c.scopes,
    keys.c.token_prefix,
    keys.c.expires_at,
    keys.c.last_used_at,
    keys.c.request_count,
    keys.c.created_at,
    keys.c.revoked_at,
)

_decode_permissions = msgspec.json.Decoder(tuple[str, ...]).decode


class KeyUse(msgspec.Struct, frozen=True):
    """What a key was used for since the last count."""

    organization_id: OrganizationId
    key_id: KeyId
    last_used_at: int
    requests: int


def _key(row: AnyRow) -> Key:
    return Key(
        id=KeyId(row[0]),
        organization_id=OrganizationId(row[1]),
        project_id=None if row[2] is None else ProjectId(row[2]),
        name=row[3],
        role=None if row[4] is None else Role(row[4]),
        permissions=_decode_permissions(row[5]),
        scopes=row[6],
        token_prefix=row[7],
        expires_at=row[8],
        last_used_at=row[9],
        request_count=row[10],
        created_at=row[11],
        revoked_at=row[12],
    )


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [keys.c.organization_id == sight.organization_id, keys.c.revoked_at.is_(None)]
    if sight.project_id is not None:
        seen.append(keys.c.project_id == sight.project_id)
    return seen


def by_token_hash(connection: Connection, token_hash: str) -> Key | None:
    """The key of a token, out of all organizations; None when it is void.

    A key falls with its organization and with its project. Expiry is for the caller to judge.
    """
    row = connection.execute(
        sa.select(*_COLUMNS)
        .join(organizations, organizations.c.id == keys.c.organization_id)
        .outerjoin(projects, projects.c.id == keys.c.project_id)
        .where(
            keys.c.token_hash == token_hash,
            keys.c.revoked_at.is_(None),
            organizations.c.deleted_at.is_(None),
            sa.or_(keys.c.project_id.is_(None), projects.c.deleted_at.is_(None)),
        )
    ).first()
    return None if row is None else _key(row)


def organization_of(connection: Connection, key_id: str) -> OrganizationId | None:
    """Whose key this is, out of all; for the operator, who names a key by its id alone."""
    found = connection.scalar(
        sa.select(keys.c.organization_id).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
    )
    return None if found is None else OrganizationId(found)


def is_revoked(connection: Connection, key_id: str) -> bool:
    """Whether a key has been revoked; for changes that were let in before it was."""
    found = connection.scalar(
        sa.select(sa.literal(1)).where(keys.c.id == key_id, keys.c.revoked_at.is_not(None))
    )
    return found is not None


def get(connection: Connection, sight: Sight, key_id: str) -> Key:
    """A key in sight; raises NotFound."""
    row = connection.execute(sa.select(*_COLUMNS).where(keys.c.id == key_id, *_seen(sight))).first()
    if row is None:
        raise NotFound
    return _key(row)


def walk(
    connection: Connection, sight: Sight, *, revoked: bool = False, limit: int, below: str | None
) -> Walked[Key]:
    """The keys in sight; those that are revoked only where they are asked for, too."""
    page = newest(
        connection,
        sa.select(keys.c.id, keys.c.revoked_at, keys.c.project_id).where(
            keys.c.organization_id == sight.organization_id
        ),
        keys.c.id,
        keep=lambda scan: [
            *([] if revoked else [scan.c.revoked_at.is_(None)]),
            *([] if sight.project_id is None else [scan.c.project_id == sight.project_id]),
        ],
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .where(keys.c.id.in_(page.items), keys.c.organization_id == sight.organization_id)
        .order_by(keys.c.id.desc())
    )
    return put(page, [_key(row) for row in rows])


def count(connection: Connection, sight: Sight) -> int:
    """How many keys the organization has, whatever is in sight; for its quota."""
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                keys.c.organization_id == sight.organization_id, keys.c.revoked_at.is_(None)
            )
        )
        or 0
    )


def create(connection: Connection, sight: Sight, key: Key, *, token_hash: str) -> None:
    """Store a new key of the organization in sight."""
    connection.execute(
        sa.insert(keys).values(
            id=key.id,
            organization_id=sight.organization_id,
            project_id=key.project_id,
            name=key.name,
            role=key.role,
            permissions=msgspec.json.encode(key.permissions).decode(),
            scopes=key.scopes,
            token_hash=token_hash,
            token_prefix=key.token_prefix,
            expires_at=key.expires_at,
            created_at=key.created_at,
        )
    )


def revoke(connection: Connection, sight: Sight, key_id: str, *, now_ms: int) -> None:
    """Make a key void; raises NotFound."""
    done = connection.execute(
        sa.update(keys).where(keys.c.id == key_id, *_seen(sight)).values(revoked_at=now_ms)
    )
    if not done.rowcount:
        raise NotFound


def revoke_of_project(
    connection: Connection, sight: Sight, project_id: ProjectId, *, now_ms: int
) -> None:
    """Make all keys of a project void, as many as the quota of keys allows."""
    connection.execute(
        sa.update(keys)
        .where(keys.c.project_id == project_id, *_seen(sight))
        .values(revoked_at=now_ms)
    )


def count_uses(connection: Connection, uses: Sequence[KeyUse]) -> None:
    """Note when keys were last used and how often; keys that are gone are passed over."""
    if not uses:
        return
    at = sa.bindparam("at", type_=sa.BigInteger)
    connection.execute(
        sa.update(keys)
        .where(keys.c.id == sa.bindparam("key"), keys.c.organization_id == sa.bindparam("owner"))
        .values(
            last_used_at=sa.case((keys.c.last_used_at > at, keys.c.last_used_at), else_=at),
            request_count=keys.c.request_count + sa.bindparam("requests", type_=sa.BigInteger),
        ),
        [
            {
                "key": use.key_id,
                "owner": use.organization_id,
                "at": use.last_used_at,
                "requests": use.requests,
            }
            for use in sorted(uses, key=lambda use: use.key_id)
        ],
    )
