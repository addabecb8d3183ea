"""What evaluating alert rules reads and notes, of all organizations: see `domain.alerts`."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.domain.alerts import AlertRule, OpenedIssue, Trigger
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.storage.control.alert_rules import chunks, rule_of
from tocsin.storage.control.walk import Sight
from tocsin.storage.tables import channels, organizations, projects
from tocsin.storage.watch_tables import alert_history, alert_rules, issues, served_minutes


def enabled(connection: Connection, *, above: str, limit: int) -> list[AlertRule]:
    """Rules to evaluate, in the order of their ids; those of what is deleted are left out, the
    channels they name are not looked at."""
    rows = connection.execute(
        sa.select(alert_rules)
        .join(organizations, organizations.c.id == alert_rules.c.organization_id)
        .join(projects, projects.c.id == alert_rules.c.project_id)
        .where(
            alert_rules.c.id > above,
            alert_rules.c.enabled.is_(True),
            organizations.c.deleted_at.is_(None),
            projects.c.deleted_at.is_(None),
        )
        .order_by(alert_rules.c.id)
        .limit(limit)
    )
    return [rule_of(row) for row in rows]


def _due(rule_id: ColumnElement[bool], minute: int) -> list[ColumnElement[bool]]:
    """A minute is noted once, and none after a later one."""
    return [
        rule_id,
        alert_rules.c.enabled.is_(True),
        alert_rules.c.evaluated_minute < minute,
    ]


def advance(connection: Connection, rule_ids: Sequence[str], *, minute: int) -> None:
    """Note that there was nothing to note of these rules at a minute."""
    for some in chunks(rule_ids):
        connection.execute(
            sa.update(alert_rules)
            .where(*_due(alert_rules.c.id.in_(some), minute))
            .values(evaluated_minute=minute)
        )


def note(connection: Connection, rules: Sequence[AlertRule], *, minute: int) -> None:
    """Store the state of these rules after a minute, where nothing has changed them since."""
    if not rules:
        return
    by = sa.bindparam
    connection.execute(
        sa.update(alert_rules)
        .where(*_due(alert_rules.c.id == by("of"), minute), alert_rules.c.version == by("expected"))
        .values(evaluated_minute=by("noted"), firing_since=by("since"), last_true_at=by("held_at")),
        [
            {
                "of": rule.id,
                "expected": rule.version,
                "noted": rule.evaluated_minute,
                "since": rule.firing_since,
                "held_at": rule.last_true_at,
            }
            for rule in rules
        ],
    )


def conclude(
    connection: Connection,
    sight: Sight,
    rule: AlertRule,
    *,
    minute: int,
    trigger: Trigger | None = None,
) -> bool:
    """Store a rule's state after a minute of which there is something to tell, and the trigger.

    `rule` has the version that the decision was made on: False, and nothing stored, when it has
    changed since, or has been decided on at this minute or a later one.
    """
    new: dict[str, Any] = {
        "version": alert_rules.c.version + 1,
        "evaluated_minute": rule.evaluated_minute,
        "firing_since": rule.firing_since,
        "last_true_at": rule.last_true_at,
    }
    if trigger is not None:
        new["trigger_count"] = alert_rules.c.trigger_count + 1
        new["last_triggered_at"] = trigger.created_at
    seen = [alert_rules.c.organization_id == sight.organization_id]
    if sight.project_id is not None:
        seen.append(alert_rules.c.project_id == sight.project_id)
    done = connection.execute(
        sa.update(alert_rules)
        .where(
            *_due(alert_rules.c.id == rule.id, minute),
            *seen,
            alert_rules.c.version == rule.version,
        )
        .values(new)
    )
    if not done.rowcount:
        return False
    if trigger is not None:
        given = msgspec.structs.asdict(trigger) | {"organization_id": sight.organization_id}
        connection.execute(sa.insert(alert_history).values(given))
    return True


def projects_of(
    connection: Connection, channel_ids: Collection[ChannelId]
) -> dict[ChannelId, ProjectId | None]:
    """The project of each of these channels, deleted ones included."""
    found: dict[ChannelId, ProjectId | None] = {}
    for some in chunks(sorted(channel_ids)):
        rows = connection.execute(
            sa.select(channels.c.id, channels.c.project_id).where(channels.c.id.in_(some))
        )
        found |= {ChannelId(row.id): row.project_id for row in rows}
    return found


class Opened(Struct, frozen=True):
    """An issue, and when it was opened."""

    issue: OpenedIssue
    organization_id: OrganizationId
    project_id: ProjectId | None
    opened_at: int


def opened_issues(
    connection: Connection,
    *,
    since_ms: int,
    until_ms: int,
    now_ms: int,
    organization_id: OrganizationId | None = None,
) -> list[Opened]:
    """The issues, of one organization or all, that were opened in this time and are not snoozed,
    the first one first."""
    wanted = [
        issues.c.opened_at >= since_ms,
        issues.c.opened_at < until_ms,
        sa.or_(issues.c.snoozed_until.is_(None), issues.c.snoozed_until <= now_ms),
    ]
    if organization_id is not None:
        wanted.append(issues.c.organization_id == organization_id)
    rows = connection.execute(
        sa.select(issues).where(*wanted).order_by(issues.c.opened_at, issues.c.id)
    )
    return [
        Opened(
            OpenedIssue(id=row.id, title=row.title, channel_id=row.channel_id),
            row.organization_id,
            row.project_id,
            row.opened_at,
        )
        for row in rows
    ]


def serve(connection: Connection, minutes: Sequence[int], *, node: int) -> None:
    """Note that this node accepted events during all of these minutes."""
    server = connection.dialect.name == "postgresql"
    insert = postgresql.insert if server else sqlite.insert
    connection.execute(
        insert(served_minutes)
        .values([{"minute": minute, "node": node} for minute in minutes])
        .on_conflict_do_nothing()
    )


def served(connection: Connection, *, since_minute: int, until_minute: int) -> set[int]:
    """The minutes during all of which some node accepted events."""
    at = served_minutes.c.minute
    rows = connection.scalars(sa.select(at).where(at >= since_minute, at < until_minute).distinct())
    return set(rows)


def forget_served(connection: Connection, *, before_minute: int, rows_max: int) -> int:
    """Remove what is too old for any rule; returns how many rows."""
    place = (served_minutes.c.minute, served_minutes.c.node)
    old = sa.select(*place).where(served_minutes.c.minute < before_minute).limit(rows_max)
    return connection.execute(sa.delete(served_minutes).where(sa.tuple_(*place).in_(old))).rowcount
