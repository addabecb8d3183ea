"""One-time links: looked at as often as wanted, used once. The tokens are never stored."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import OrganizationId, Role
from tocsin.domain.people import Link, LinkId, LinkKind, UserId
from tocsin.storage.tables import links


def find(connection: Connection, token_hash: str, *, now_ms: int) -> Link | None:
    """The link of a token; None when it is used up, too old, or never was."""
    row = connection.execute(
        sa.select(links).where(links.c.token_hash == token_hash, links.c.expires_at > now_ms)
    ).first()
    if row is None:
        return None
    return Link(
        id=LinkId(row.id),
        kind=LinkKind(row.kind),
        email=row.email,
        user_id=None if row.user_id is None else UserId(row.user_id),
        organization_id=None
        if row.organization_id is None
        else OrganizationId(row.organization_id),
        role=None if row.role is None else Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def create(connection: Connection, link: Link, *, token_hash: str) -> None:
    """Store a new link; an older one of the same kind for the same purpose is void."""
    connection.execute(
        sa.delete(links).where(
            links.c.kind == link.kind,
            links.c.email == link.email,
            links.c.organization_id.is_not_distinct_from(link.organization_id),
        )
    )
    connection.execute(
        sa.insert(links).values(
            id=link.id,
            kind=link.kind,
            token_hash=token_hash,
            email=link.email,
            user_id=link.user_id,
            organization_id=link.organization_id,
            role=link.role,
            created_at=link.created_at,
            expires_at=link.expires_at,
        )
    )


def use(connection: Connection, link_id: LinkId) -> bool:
    """Use a link up; False when somebody else has."""
    return bool(connection.execute(sa.delete(links).where(links.c.id == link_id)).rowcount)


def drop(connection: Connection, *, user_id: UserId) -> None:
    """Make the links of a user void, after which a password was set."""
    connection.execute(sa.delete(links).where(links.c.user_id == user_id))


def purge(connection: Connection, *, now_ms: int, rows_max: int) -> int:
    """Remove links that are too old, at most so many; returns how many."""
    old = sa.select(links.c.id).where(links.c.expires_at <= now_ms).limit(rows_max)
    return connection.execute(sa.delete(links).where(links.c.id.in_(old))).rowcount


def count(connection: Connection, organization_id: OrganizationId, *, now_ms: int) -> int:
    """How many invitations of an organization are open."""
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                links.c.organization_id == organization_id, links.c.expires_at > now_ms
            )
        )
        or 0
    )
