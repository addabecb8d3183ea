"""Who may do what: operations have dotted names, credentials hold grants, which are patterns."""

import re
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from tocsin.domain.model import OrganizationId, ProjectId, Role

GRANT_CHARS_MAX = 128
GRANT_SEGMENTS_MAX = 10
GRANTS_MAX = 100

ALL = ("*",)

OPERATIONS = (
    "organization.create",
    "organization.list",
    "organization.get",
    "organization.update",
    "organization.delete",
    "project.create",
    "project.list",
    "project.get",
    "project.update",
    "project.delete",
    "key.create",
    "key.list",
    "key.delete",
    "member.create",
    "member.list",
    "member.update",
    "member.delete",
    "user.create",
    "user.list",
    "user.reset",
    "user.delete",
    "channel.create",
    "channel.list",
    "channel.get",
    "channel.update",
    "channel.delete",
    "channel.secret",
    "channel.test",
    "job.create",
    "job.list",
    "job.get",
    "job.delete",
    "event.publish",
    "event.list",
    "event.get",
    "delivery.list",
    "delivery.get",
    "delivery.retry",
    "stats.get",
    "audit.list",
    "backup.create",
    "backup.get",
    "master_key.rotate",
    "master_key.get",
    "alert_rule.create",
    "alert_rule.list",
    "alert_rule.get",
    "alert_rule.update",
    "alert_rule.delete",
    "issue.list",
    "issue.get",
    "issue.update",
    "issue.retry",
    "mad.application.notification.list",
    "mad.application.notification.get",
    "mad.application.notification.create",
    "mad.application.notification.update",
    "mad.application.notification.remove",
    "base.organization.notification.list",
    "base.organization.notification.get",
    "base.organization.notification.create",
    "base.organization.notification.update",
    "base.organization.notification.remove",
)
"""Every name a call can check; there are no others."""

ROLES: dict[Role, tuple[str, ...]] = {
    Role.ADMIN: ALL,
    Role.DEVELOPER: (
        "project.list",
        "project.get",
        "channel.*",
        "event.*",
        "delivery.*",
        "job.*",
        "stats.get",
        "alert_rule.*",
        "issue.*",
        "mad.*",
        "base.organization.notification.*",
    ),
    Role.VIEWER: ("*.list", "*.get"),
}

_GRANT = re.compile(r"(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*", re.ASCII)


class Caller(Struct, frozen=True, kw_only=True):
    """Whoever makes a call, as every use case sees it.

    `organization_id` None is the operator, who is in every organization; `project_id` None is an
    organization-wide credential. `id` names the key, or the user of a session; None for the
    operator. A session has `session_id`, and in `selected_project_id` the project that a call is
    about which names none: it narrows nothing. `system` is Tocsin itself, which calls nothing: it
    is named in the audit.
    """

    kind: Literal["operator", "key", "session", "stranger", "system"]
    organization_id: OrganizationId | None = None
    project_id: ProjectId | None = None
    grants: tuple[str, ...] = ()
    id: str | None = None
    name: str = ""
    dialect: Literal["native", "applivery", "hookstream"] = "native"
    address: str | None = None
    session_id: str | None = None
    selected_project_id: ProjectId | None = None

    def may(self, operation: str) -> bool:
        """Whether a grant of this caller covers the operation; sight is another matter."""
        return allows(self.grants, operation)


def grant_valid(text: str) -> bool:
    """Whether the text can be a grant: whole segments or `*`, joined by dots."""
    return (
        len(text) <= GRANT_CHARS_MAX
        and text.count(".") < GRANT_SEGMENTS_MAX
        and _GRANT.fullmatch(text) is not None
    )


@lru_cache(maxsize=8192)
def allows(grants: tuple[str, ...], operation: str) -> bool:
    """Whether any of the grants covers the operation."""
    return any(_covers(grant, operation) for grant in grants)


def within(child_grants: tuple[str, ...], parent_grants: tuple[str, ...]) -> bool:
    """Whether the child's grants give nothing that the parent's do not.

    Each pattern of the child must lie inside one pattern of the parent, so this holds for all of
    today's operations and for those a later release adds: only `*` grants `*`.
    """
    return all(allows(parent_grants, grant) for grant in child_grants)


def grants_of(role: Role | None, permissions: tuple[str, ...]) -> tuple[str, ...]:
    """The grants of a key: its role's and its own, united; a key with neither is a developer."""
    if role is None and not permissions:
        role = Role.DEVELOPER
    of_role = ROLES[role] if role is not None else ()
    return tuple(dict.fromkeys((*of_role, *permissions)))


def _covers(pattern: str, name: str) -> bool:
    """Match whole segments; `*` takes one or more. A `*` in `name` is taken by a `*` only, which
    makes this pattern inclusion when `name` is itself a grant."""
    return _match(pattern.split("."), name.split("."))


def _match(pattern: list[str], name: list[str]) -> bool:
    # reached[j]: the pattern so far can take exactly the first j segments of the name.
    reached = [True] + [False] * len(name)
    for segment in pattern:
        after = [False] * (len(name) + 1)
        for j, got in enumerate(name, start=1):
            if segment == "*":
                after[j] = reached[j - 1] or after[j - 1]
            else:
                after[j] = reached[j - 1] and got == segment
        reached = after
    return reached[-1]
