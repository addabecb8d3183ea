"""Organizations and projects, and what a call may see of them."""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import UNSET, UnsetType

from tocsin.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import is_id, normalize_id, slug_from_name, slug_valid
from tocsin.domain.model import AuditEntry, Organization, OrganizationId, Project, ProjectId
from tocsin.domain.permissions import Caller
from tocsin.domain.text import check_short
from tocsin.service.changes import Changes, Made, Target, difference, listing, permit
from tocsin.service.jobs import JobRunner
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import (
    Connection,
    alert_rules,
    audit,
    jobs,
    keys,
    organizations,
    projects,
    work,
)

NAME_CHARS_MAX = 128
PROJECTS_MAX = 200
SLUGS_TRIED = 200
REFERENCES_CACHED_MAX = 10_000
STEPS_AT_ONCE = 4
"""What is deleted takes effect before the call is answered; the rest is left to the janitor."""

_RENAMED = ("name", "slug")


class Directory:
    """Organizations and projects. References (ids and slugs) are resolved once, to a `Sight`."""

    def __init__(
        self, *, changes: Changes, runner: JobRunner, projects_max: int = PROJECTS_MAX
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._runner = runner
        self._projects_max = projects_max
        # Only what was found; dropped when its organization changes.
        self._organizations: OrderedDict[str, OrganizationId] = OrderedDict()
        self._projects: OrderedDict[tuple[OrganizationId, str], Project] = OrderedDict()
        self._epoch = 0

    def forget(self, organization_id: OrganizationId) -> None:
        """Forget how the organization's references resolve; to be told of every change."""
        self._epoch += 1
        for ref in [r for r, id in self._organizations.items() if id == organization_id]:
            del self._organizations[ref]
        for place in [p for p in self._projects if p[0] == organization_id]:
            del self._projects[place]

    async def sight(
        self, caller: Caller, organization: str | None, project: str | None = None
    ) -> Sight:
        """What the call may see, from the references in its path, in any case.

        Raises NotFound for what is absent or out of the caller's sight. Without a reference it is
        the caller's own organization; for the operator the only one there is, else Invalid.
        A project in the path narrows the sight to it, as a key bound to one does.
        """
        organization_id = await self._organization_id(caller, organization)
        sight = Sight(organization_id, caller.project_id)
        if project is None:
            return sight
        found = await self._find_project(sight, project)
        if found is None:
            raise NotFound
        return Sight(organization_id, found.id)

    async def sight_by_id(
        self, caller: Caller, organization_of: Callable[[Connection], OrganizationId | None]
    ) -> Sight:
        """What a call may see that names no organization, only the id of something.

        For the operator it is the organization of that, which `organization_of` finds; raises
        NotFound where there is none.
        """
        found = caller.organization_id
        if found is None:
            found = await self._store.read(organization_of)
        if found is None:
            raise NotFound
        return Sight(found, caller.project_id)

    async def project_sight(self, caller: Caller, project_id: str) -> Sight:
        """What a call may see that names nothing but this project; raises NotFound."""
        wanted = normalize_id(project_id)
        if wanted is None:
            raise NotFound
        return await self.sight_by_id(caller, lambda c: projects.organization_of(c, wanted))

    async def _organization_id(self, caller: Caller, ref: str | None) -> OrganizationId:
        own = caller.organization_id
        if ref is None:
            if own is not None:
                return own
            only = await self._store.read(organizations.only)
            if only is None:
                raise Invalid("organization", "must be named")
            return only.id
        ref = ref.lower()
        if own is not None and is_id(ref):
            if ref != own:
                raise NotFound
            return own
        found = self._organizations.get(ref)
        if found is None:
            found = await self._resolve(ref)
        if own is not None and found != own:
            raise NotFound
        return found

    async def _resolve(self, ref: str) -> OrganizationId:
        epoch = self._epoch
        if is_id(ref):
            found = await self._store.read(lambda c: organizations.resolve(c, id=ref))
        elif slug_valid(ref):
            found = await self._store.read(lambda c: organizations.resolve(c, slug=ref))
        else:
            found = None
        if found is None:
            raise NotFound
        if epoch == self._epoch:
            self._organizations[ref] = found.id
            if len(self._organizations) > REFERENCES_CACHED_MAX:
                self._organizations.popitem(last=False)
        return found.id

    async def project_in(self, sight: Sight, ref: str) -> Project:
        """The project that a body or query names; raises Invalid when it is out of sight."""
        found = await self._find_project(sight, ref)
        if found is None:
            raise Invalid("project", "is unknown")
        return found

    async def _find_project(self, sight: Sight, ref: str) -> Project | None:
        ref = ref.lower()
        place = (sight.organization_id, ref)
        found = self._projects.get(place)
        if found is None:
            epoch = self._epoch
            whole = Sight(sight.organization_id)
            if is_id(ref):
                found = await self._store.read(lambda c: projects.find(c, whole, id=ref))
            elif slug_valid(ref):
                found = await self._store.read(lambda c: projects.find(c, whole, slug=ref))
            if found is not None and epoch == self._epoch:
                self._projects[place] = found
                if len(self._projects) > REFERENCES_CACHED_MAX:
                    self._projects.popitem(last=False)
        if found is not None and sight.project_id is not None and found.id != sight.project_id:
            return None
        return found

    # Organizations

    async def create_organization(
        self, caller: Caller, *, name: str, slug: str | None = None
    ) -> Organization:
        """Make an organization; only the operator may. Raises Conflict when the slug is taken."""
        _only_operator(caller, "organization.create")
        _check(name, slug)
        now_ms = self._changes.clock.wall_ms()
        organization_id = OrganizationId(self._changes.new_id())

        def work(connection: Connection) -> Made[Organization]:
            chosen = slug or organizations.free_slug(connection, _choices(name))
            organization = Organization(
                id=organization_id,
                name=name,
                slug=_some(chosen),
                created_at=now_ms,
                updated_at=now_ms,
            )
            organizations.create(connection, organization)
            return Made(organization, {"name": name, "slug": organization.slug})

        return await self._changes.make(
            caller,
            Sight(organization_id),
            "organization.create",
            Target("organization", organization_id),
            work,
            touch=False,
        )

    async def list_organizations(self, caller: Caller, page: Page) -> Listing[Organization]:
        """All organizations, for the operator."""
        _only_operator(caller, "organization.list")
        return listing(
            await self._store.read(
                lambda c: organizations.walk(c, limit=page.limit, below=page.below)
            )
        )

    async def organization(self, caller: Caller, sight: Sight) -> Organization:
        """The organization in sight."""
        found = await self._store.read(lambda c: organizations.get(c, sight))
        permit(caller, "organization.get")
        return found

    async def update_organization(
        self,
        caller: Caller,
        sight: Sight,
        *,
        name: str | UnsetType = UNSET,
        slug: str | UnsetType = UNSET,
    ) -> Organization:
        """Rename it; raises Conflict when the slug is taken. Nothing new has no effect at all."""
        permit(caller, "organization.update")
        _check(name, slug)
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[Organization]:
            before = organizations.get(connection, sight)
            new_name, new_slug = _renamed(before, name, slug)
            if (new_name, new_slug) == (before.name, before.slug):
                return Made(before)
            organizations.update(connection, sight, name=new_name, slug=new_slug, now_ms=now_ms)
            after = organizations.get(connection, sight)
            return Made(after, difference(before, after, _RENAMED))

        target = Target("organization", sight.organization_id)
        return await self._changes.make(caller, sight, "organization.update", target, work)

    async def delete_organization(
        self, caller: Caller, sight: Sight, *, confirm: str | None
    ) -> None:
        """Void it and its keys at once; a job removes its data. `confirm` must be its slug."""
        permit(caller, "organization.delete")
        now_ms = self._changes.clock.wall_ms()
        job_id = self._changes.new_id()

        def delete(connection: Connection) -> Made[None]:
            found = organizations.get(connection, sight)
            if confirm != found.slug:
                raise Invalid("confirm", "must be the slug of the organization")
            organizations.delete(connection, sight, now_ms=now_ms)
            jobs.create(
                connection,
                sight,
                id=job_id,
                kind=work.DELETE_ORGANIZATION,
                channel_id=None,
                internal=True,
                arguments={},
                now_ms=now_ms,
            )
            return Made(None, {"name": found.name, "slug": found.slug})

        target = Target("organization", sight.organization_id)
        await self._changes.make(caller, sight, "organization.delete", target, delete)
        await self._runner.run(sight, job_id, steps_max=STEPS_AT_ONCE)

    # Projects

    async def create_project(
        self, caller: Caller, sight: Sight, *, name: str, slug: str | None = None
    ) -> Project:
        """Make a project. Raises Conflict when the slug is taken, QuotaExceeded at the limit."""
        permit(caller, "project.create")
        if caller.project_id is not None:
            raise Forbidden
        _check(name, slug)
        now_ms = self._changes.clock.wall_ms()
        project_id = ProjectId(self._changes.new_id())

        def work(connection: Connection) -> Made[Project]:
            if projects.count(connection, sight) >= self._projects_max:
                raise QuotaExceeded(f"An organization has at most {self._projects_max} projects.")
            chosen = slug or projects.free_slug(connection, sight, _choices(name))
            project = Project(
                id=project_id,
                organization_id=sight.organization_id,
                name=name,
                slug=_some(chosen),
                created_at=now_ms,
                updated_at=now_ms,
            )
            projects.create(connection, sight, project)
            return Made(project, {"name": name, "slug": project.slug})

        target = Target("project", project_id)
        return await self._changes.make(caller, sight, "project.create", target, work)

    async def list_projects(self, caller: Caller, sight: Sight, page: Page) -> Listing[Project]:
        """The projects in sight."""
        permit(caller, "project.list")
        return listing(
            await self._store.read(
                lambda c: projects.walk(c, sight, limit=page.limit, below=page.below)
            )
        )

    async def project(self, caller: Caller, sight: Sight, ref: str) -> Project:
        """A project by id or slug."""
        found = await self._project(sight, ref)
        permit(caller, "project.get")
        return found

    async def _project(self, sight: Sight, ref: str) -> Project:
        found = await self._find_project(sight, ref)
        if found is None:
            raise NotFound
        return found

    async def update_project(
        self,
        caller: Caller,
        sight: Sight,
        ref: str,
        *,
        name: str | UnsetType = UNSET,
        slug: str | UnsetType = UNSET,
    ) -> Project:
        """Rename it; raises Conflict when the slug is taken."""
        project_id = (await self._project(sight, ref)).id
        permit(caller, "project.update")
        _check(name, slug)
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[Project]:
            before = projects.get(connection, sight, project_id)
            new_name, new_slug = _renamed(before, name, slug)
            if (new_name, new_slug) == (before.name, before.slug):
                return Made(before)
            projects.update(
                connection, sight, project_id, name=new_name, slug=new_slug, now_ms=now_ms
            )
            after = projects.get(connection, sight, project_id)
            return Made(after, difference(before, after, _RENAMED))

        target = Target("project", project_id)
        return await self._changes.make(caller, sight, "project.update", target, work)

    async def delete_project(self, caller: Caller, sight: Sight, ref: str) -> None:
        """Void it with its keys and channels; its history stays until retention."""
        found = await self._project(sight, ref)
        permit(caller, "project.delete")
        now_ms = self._changes.clock.wall_ms()
        job_id = self._changes.new_id()

        def delete(connection: Connection) -> Made[None]:
            projects.delete(connection, sight, found.id, now_ms=now_ms)
            keys.revoke_of_project(connection, sight, found.id, now_ms=now_ms)
            alert_rules.project_gone(connection, sight, found.id, now_ms=now_ms)
            jobs.create(
                connection,
                sight,
                id=job_id,
                kind=work.DELETE_PROJECT,
                channel_id=None,
                internal=True,
                arguments={"project_id": found.id},
                now_ms=now_ms,
            )
            return Made(None, {"name": found.name, "slug": found.slug})

        target = Target("project", found.id)
        await self._changes.make(caller, sight, "project.delete", target, delete)
        await self._runner.run(sight, job_id, steps_max=STEPS_AT_ONCE)

    # Audit

    async def audit(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        action: str | None = None,
        actor: str | None = None,
        target: str | None = None,
        after: int | None = None,
        before: int | None = None,
    ) -> Listing[AuditEntry]:
        """Who changed what; a key bound to a project sees that there is none (NotFound).

        `actor` and `target` are ids or kinds; `after` ≤ at < `before`, in milliseconds.
        """
        if caller.project_id is not None:
            raise NotFound
        permit(caller, "audit.list")
        return listing(
            await self._store.read(
                lambda c: audit.walk(
                    c,
                    sight,
                    action=action,
                    actor=actor and actor.lower(),
                    target=target and target.lower(),
                    after=after,
                    before=before,
                    limit=page.limit,
                    below=page.below,
                )
            )
        )


def _only_operator(caller: Caller, operation: str) -> None:
    if caller.kind != "operator":
        raise Forbidden("Only the operator may do this.")
    permit(caller, operation)


def _check(name: str | UnsetType, slug: str | UnsetType | None) -> None:
    if name is not UNSET:
        check_short(name, "name", NAME_CHARS_MAX)
    if isinstance(slug, str) and not slug_valid(slug):
        raise Invalid("slug", "must be 1 to 64 of a-z, 0-9 and -, and not look like an id")


def _renamed(
    before: Organization | Project, name: str | UnsetType, slug: str | UnsetType
) -> tuple[str, str]:
    """The name and slug after a change; a change to what they are changes nothing at all."""
    return before.name if name is UNSET else name, before.slug if slug is UNSET else slug


def _choices(name: str) -> list[str]:
    return [slug_from_name(name, number) for number in range(1, SLUGS_TRIED + 1)]


def _some(slug: str | None) -> str:
    if slug is None:
        raise Conflict("Too many have this name; give a slug.", "slug")
    return slug
