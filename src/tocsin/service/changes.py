"""How a control change is made: one transaction of the change itself, the organization's version
and the audit entry; then whatever was cached of the organization is forgotten."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tocsin.clock import Clock
from tocsin.domain.errors import Forbidden, InvalidToken
from tocsin.domain.model import AuditEntry
from tocsin.domain.people import NOWHERE
from tocsin.domain.permissions import Caller
from tocsin.service.routing import Routing
from tocsin.service.sight import Listing, Sight
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import (
    Connection,
    Walked,
    audit,
    keys,
    organizations,
    sessions,
    users,
)

T = TypeVar("T")

ORGANIZATION_LEVEL = ("base.organization.", "organization.update", "organization.delete")
"""Operations that a key bound to a project never has, whatever its grants say."""


class Target(Struct, frozen=True):
    """What a change is made to: `channel`, `key`, …, and its id."""

    kind: str
    id: str


class Made(Struct, Generic[T]):
    """The outcome of a change; `changes` goes into the audit and must hold no secret.

    With `changes` None nothing was changed after all: no entry is written.
    """

    result: T
    changes: dict[str, Any] | None = None


class Changes:
    """Makes control changes; shared by the use cases, with what they all need."""

    def __init__(
        self, *, store: ControlPlane, clock: Clock, new_id: Callable[[], str], routing: Routing
    ) -> None:
        self.store = store
        self.clock = clock
        self.new_id = new_id
        self._routing = routing
        self._running: set[asyncio.Task[Any]] = set()

    async def make(
        self,
        caller: Caller,
        sight: Sight,
        action: str,
        target: Target,
        work: Callable[[Connection], Made[T]],
        *,
        touch: bool = True,
    ) -> T:
        """Run `work` and what belongs to it in one transaction; raises what `work` raises, and
        InvalidToken where the caller's key or session has been revoked since it was let in.

        `touch` False is for what changes neither routes nor rights, or makes the organization.
        """
        entry_id = self.new_id()
        at = self.clock.wall_ms()

        def whole(connection: Connection) -> T:
            if touch:
                organizations.touch(connection, sight)
            if caller.kind == "key" and caller.id and keys.is_revoked(connection, caller.id):
                raise InvalidToken
            if caller.session_id and not sessions.is_live(connection, caller.session_id, now_ms=at):
                raise InvalidToken
            made = work(connection)
            if made.changes is not None:
                entry = _entry(caller, sight, entry_id, at, action, target, made.changes)
                audit.record(connection, sight, entry)
            return made.result

        return await self.alone(whole, (lambda: self.forget(sight)) if touch else _nothing)

    async def alone(self, work: Callable[[Connection], T], after: Callable[[], None]) -> T:
        """Run `work` in a transaction and then, whatever became of it, `after`.

        For changes that belong to no organization, or to several; they write their entries with
        `note` themselves.
        """
        # A caller who hangs up must not part the commit from what follows it: a revoked key would
        # stay in the cache.
        task = asyncio.get_running_loop().create_task(self._commit(work, after))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _commit(self, work: Callable[[Connection], T], after: Callable[[], None]) -> T:
        try:
            return await self.store.write(work)
        finally:
            # Also when it failed: the outcome of a commit may be unknown.
            after()

    def note(
        self,
        connection: Connection,
        caller: Caller,
        sight: Sight,
        action: str,
        target: Target,
        changes: dict[str, Any],
    ) -> None:
        """Write an entry within a transaction of `alone`."""
        at = self.clock.wall_ms()
        entry = _entry(caller, sight, self.new_id(), at, action, target, changes)
        audit.record(connection, sight, entry)

    def note_user(
        self,
        connection: Connection,
        caller: Caller,
        user_id: str,
        action: str,
        target: Target,
        changes: dict[str, Any],
    ) -> None:
        """The same for what concerns a person: an entry in each organization that they are in,
        or in nobody's, which the operator reads."""
        concerned = [one.organization_id for one in users.memberships(connection, user_id)]
        for organization_id in concerned or [NOWHERE]:
            self.note(connection, caller, Sight(organization_id), action, target, changes)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it too; nobody may be waiting any more

    async def close(self) -> None:
        """Wait for the changes under way, whose callers may be gone."""
        while self._running:
            await asyncio.wait(self._running)

    def forget(self, sight: Sight) -> None:
        """Have everybody forget what is cached of the organization."""
        self._routing.invalidate(sight.organization_id)


def _nothing() -> None:
    pass


def permit(caller: Caller, operation: str) -> None:
    """Raise Forbidden unless the caller may do this; existence is checked before."""
    if not caller.may(operation):
        raise Forbidden
    forbid_bound(caller, operation)


def forbid_bound(caller: Caller, operation: str) -> None:
    """Raise Forbidden for an organization-level call of a key that is bound to a project."""
    if caller.project_id is not None and operation.startswith(ORGANIZATION_LEVEL):
        raise Forbidden


def listing(walked: Walked[T]) -> Listing[T]:
    """A page as the edges know it."""
    return Listing(items=walked.items, next=walked.next, scanned_to=walked.scanned_to)


def difference(before: Any, after: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What a change says in the audit: the old and new value of each attribute that differs."""
    return {
        name: {"from": getattr(before, name), "to": getattr(after, name)}
        for name in names
        if getattr(before, name) != getattr(after, name)
    }


def _entry(
    caller: Caller,
    sight: Sight,
    id: str,
    at: int,
    action: str,
    target: Target,
    changes: dict[str, Any],
) -> AuditEntry:
    return AuditEntry(
        id=id,
        organization_id=sight.organization_id,
        at=at,
        actor_kind=caller.kind,
        actor_id=caller.id,
        actor_name=caller.name or caller.kind,
        dialect=caller.dialect,
        address=caller.address,
        action=action,
        target_kind=target.kind,
        target_id=target.id,
        changes=changes,
    )
