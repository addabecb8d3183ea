"""Projects: parts of an organization that emit events."""

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import IntegrityError

from tocsin.domain.errors import Conflict, NotFound
from tocsin.domain.model import OrganizationId, Project, ProjectId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import projects

_COLUMNS = (
    projects.c.id,
    projects.c.organization_id,
    projects.c.name,
    projects.c.slug,
    projects.c.created_at,
    projects.c.updated_at,
)


def _project(row: AnyRow) -> Project:
    return Project(
        id=ProjectId(row[0]),
        organization_id=OrganizationId(row[1]),
        name=row[2],
        slug=row[3],
        created_at=row[4],
        updated_at=row[5],
    )


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [projects.c.organization_id == sight.organization_id, projects.c.deleted_at.is_(None)]
    if sight.project_id is not None:
        seen.append(projects.c.id == sight.project_id)
    return seen


def find(
    connection: Connection, sight: Sight, *, id: str | None = None, slug: str | None = None
) -> Project | None:
    """A project in sight by id or by slug."""
    place = projects.c.id == id if id is not None else projects.c.slug == slug
    row = connection.execute(sa.select(*_COLUMNS).where(place, *_seen(sight))).first()
    return None if row is None else _project(row)


def get(connection: Connection, sight: Sight, project_id: ProjectId) -> Project:
    """A project in sight; raises NotFound."""
    found = find(connection, sight, id=project_id)
    if found is None:
        raise NotFound
    return found


def organization_of(connection: Connection, project_id: str) -> OrganizationId | None:
    """Whose project this is, out of all; for the operator, who names a project by its id alone."""
    found = connection.scalar(
        sa.select(projects.c.organization_id).where(
            projects.c.id == project_id, projects.c.deleted_at.is_(None)
        )
    )
    return None if found is None else OrganizationId(found)


def walk(connection: Connection, sight: Sight, *, limit: int, below: str | None) -> Walked[Project]:
    """The projects in sight."""
    rows = sa.select(projects.c.id, projects.c.deleted_at).where(
        projects.c.organization_id == sight.organization_id
    )
    if sight.project_id is not None:
        rows = rows.where(projects.c.id == sight.project_id)
    page = newest(
        connection,
        rows,
        projects.c.id,
        keep=lambda scan: [scan.c.deleted_at.is_(None)],
        limit=limit,
        below=below,
    )
    found = connection.execute(
        sa.select(*_COLUMNS)
        .where(projects.c.id.in_(page.items), *_seen(sight))
        .order_by(projects.c.id.desc())
    )
    return put(page, [_project(row) for row in found])


def count(connection: Connection, sight: Sight) -> int:
    """How many projects the organization has, whatever is in sight; for its quota."""
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                projects.c.organization_id == sight.organization_id,
                projects.c.deleted_at.is_(None),
            )
        )
        or 0
    )


def free_slug(connection: Connection, sight: Sight, slugs: list[str]) -> str | None:
    """The first of these that no project of the organization has."""
    taken = set(
        connection.scalars(
            sa.select(projects.c.slug).where(
                projects.c.organization_id == sight.organization_id,
                projects.c.slug.in_(slugs),
                projects.c.deleted_at.is_(None),
            )
        )
    )
    return next((slug for slug in slugs if slug not in taken), None)


def create(connection: Connection, sight: Sight, project: Project) -> None:
    """Store a new project of the organization in sight; raises Conflict when its slug is taken."""
    try:
        connection.execute(
            sa.insert(projects).values(
                id=project.id,
                organization_id=sight.organization_id,
                name=project.name,
                slug=project.slug,
                created_at=project.created_at,
                updated_at=project.updated_at,
            )
        )
    except IntegrityError:
        raise Conflict("This slug is taken.", "slug") from None


def update(
    connection: Connection,
    sight: Sight,
    project_id: ProjectId,
    *,
    name: str,
    slug: str,
    now_ms: int,
) -> None:
    """Rename; raises NotFound, and Conflict when the slug is taken."""
    try:
        done = connection.execute(
            sa.update(projects)
            .where(projects.c.id == project_id, *_seen(sight))
            .values(name=name, slug=slug, updated_at=now_ms)
        )
    except IntegrityError:
        raise Conflict("This slug is taken.", "slug") from None
    if not done.rowcount:
        raise NotFound


def delete(connection: Connection, sight: Sight, project_id: ProjectId, *, now_ms: int) -> None:
    """Make the project void; `keys.revoke_of_project` and a job for its channels belong to it."""
    done = connection.execute(
        sa.update(projects)
        .where(projects.c.id == project_id, *_seen(sight))
        .values(deleted_at=now_ms)
    )
    if not done.rowcount:
        raise NotFound
