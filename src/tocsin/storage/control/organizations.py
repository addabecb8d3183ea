"""Organizations, and the version that rises with everything their routes and rights depend on."""

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tocsin.domain.errors import Conflict, NotFound
from tocsin.domain.model import Organization, OrganizationId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import organizations

_COLUMNS = (
    organizations.c.id,
    organizations.c.name,
    organizations.c.slug,
    organizations.c.created_at,
    organizations.c.updated_at,
)


def _organization(row: AnyRow) -> Organization:
    return Organization(
        id=OrganizationId(row[0]), name=row[1], slug=row[2], created_at=row[3], updated_at=row[4]
    )


class Versions(Struct, frozen=True):
    """The versions of all organizations; versions only rise, so another sum is another state."""

    sum: int
    by_id: dict[OrganizationId, int]


def versions(connection: Connection, *, unless: int) -> Versions | None:
    """The versions of all organizations; None while they add up to `unless`."""
    total = sa.select(sa.func.coalesce(sa.func.sum(organizations.c.version + 1), 0))
    added = int(connection.scalar(total) or 0)
    if added == unless:
        return None
    rows = connection.execute(sa.select(organizations.c.id, organizations.c.version))
    found = {OrganizationId(row.id): int(row.version) for row in rows}
    return Versions(sum(version + 1 for version in found.values()), found)


def resolve(
    connection: Connection, *, id: str | None = None, slug: str | None = None
) -> Organization | None:
    """An organization by id or by slug, out of all; the caller judges whether it is in sight."""
    place = organizations.c.id == id if id is not None else organizations.c.slug == slug
    row = connection.execute(
        sa.select(*_COLUMNS).where(place, organizations.c.deleted_at.is_(None))
    ).first()
    return None if row is None else _organization(row)


def only(connection: Connection) -> Organization | None:
    """The organization when there is exactly one; for the operator, who need not name it then."""
    rows = connection.execute(
        sa.select(*_COLUMNS).where(organizations.c.deleted_at.is_(None)).limit(2)
    ).all()
    return _organization(rows[0]) if len(rows) == 1 else None


def walk(connection: Connection, *, limit: int, below: str | None) -> Walked[Organization]:
    """All organizations, for the operator."""
    page = newest(
        connection,
        sa.select(organizations.c.id, organizations.c.deleted_at),
        organizations.c.id,
        keep=lambda scan: [scan.c.deleted_at.is_(None)],
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .where(organizations.c.id.in_(page.items))
        .order_by(organizations.c.id.desc())
    )
    return put(page, [_organization(row) for row in rows])


def get(connection: Connection, sight: Sight) -> Organization:
    """The organization in sight; raises NotFound."""
    found = resolve(connection, id=sight.organization_id)
    if found is None:
        raise NotFound
    return found


def touch(connection: Connection, sight: Sight) -> int:
    """Lock the organization and raise its version; returns it. Raises NotFound."""
    version: int | None = connection.scalar(
        sa.update(organizations)
        .where(organizations.c.id == sight.organization_id, organizations.c.deleted_at.is_(None))
        .values(version=organizations.c.version + 1)
        .returning(organizations.c.version)
    )
    if version is None:
        raise NotFound
    return version


def version(connection: Connection, sight: Sight) -> int:
    """The present version, by which a publish tells that its routes are not stale."""
    found: int | None = connection.scalar(
        sa.select(organizations.c.version).where(
            organizations.c.id == sight.organization_id, organizations.c.deleted_at.is_(None)
        )
    )
    if found is None:
        raise NotFound
    return found


def free_slug(connection: Connection, slugs: list[str]) -> str | None:
    """The first of these that no organization has."""
    taken = set(
        connection.scalars(
            sa.select(organizations.c.slug).where(
                organizations.c.slug.in_(slugs), organizations.c.deleted_at.is_(None)
            )
        )
    )
    return next((slug for slug in slugs if slug not in taken), None)


def create(connection: Connection, organization: Organization) -> None:
    """Store a new organization; raises Conflict when its slug is taken."""
    try:
        connection.execute(
            sa.insert(organizations).values(
                id=organization.id,
                name=organization.name,
                slug=organization.slug,
                version=1,
                created_at=organization.created_at,
                updated_at=organization.updated_at,
            )
        )
    except IntegrityError:
        raise Conflict("This slug is taken.", "slug") from None


def update(connection: Connection, sight: Sight, *, name: str, slug: str, now_ms: int) -> None:
    """Rename; raises NotFound, and Conflict when the slug is taken."""
    try:
        done = connection.execute(
            sa.update(organizations)
            .where(
                organizations.c.id == sight.organization_id, organizations.c.deleted_at.is_(None)
            )
            .values(name=name, slug=slug, updated_at=now_ms)
        )
    except IntegrityError:
        raise Conflict("This slug is taken.", "slug") from None
    if not done.rowcount:
        raise NotFound


def delete(connection: Connection, sight: Sight, *, now_ms: int) -> None:
    """Make the organization, and with it all its keys, void; its data is removed by a job."""
    done = connection.execute(
        sa.update(organizations)
        .where(organizations.c.id == sight.organization_id, organizations.c.deleted_at.is_(None))
        .values(deleted_at=now_ms, version=organizations.c.version + 1)
    )
    if not done.rowcount:
        raise NotFound
