"""The control plane: plain functions of a SQLAlchemy `Connection`, one text for both databases.

Each takes the connection, then the sight of the caller, and never looks past it: what belongs to
another organization (or, with a project in sight, to another project) does not exist. The caller
of `ControlPlane.write` composes several of them into one transaction; a function that changes an
organization's routes or rights is preceded by `organizations.touch`, which locks and raises its
version, so that changes of one organization come one after another.

    organizations, projects, keys, channels   the things themselves
    users, members, sessions, links           people, and how they come in
    lanes                                     what a change of a channel tells the data plane
    events, deliveries                        the log, read (and one delivery re-opened)
    jobs, work, recovery                      durable jobs, and the bounded steps they consist of
    statistics                                what was sent and accepted, minute by minute
    failing                                   lanes that have failed for long
    alert_rules, alerting                     what people want to be told of, and its evaluation
    outbox, issues                            what is to be told, and what troubles channels have
    audit                                     who changed what
    retention                                 what time ends and removes
    duties                                    what only one node does at a time
    schema                                    which version the database has
"""

from sqlalchemy import Connection

from tocsin.storage.control import (
    alert_rules,
    alerting,
    audit,
    channels,
    deliveries,
    duties,
    events,
    failing,
    issues,
    jobs,
    keys,
    lanes,
    links,
    members,
    organizations,
    outbox,
    projects,
    recovery,
    retention,
    rolling,
    schema,
    sessions,
    statistics,
    users,
    work,
)
from tocsin.storage.control.walk import ROWS_SCANNED_MAX, Sight, Walked

__all__ = [
    "ROWS_SCANNED_MAX",
    "Connection",
    "Sight",
    "Walked",
    "alert_rules",
    "alerting",
    "audit",
    "channels",
    "deliveries",
    "duties",
    "events",
    "failing",
    "issues",
    "jobs",
    "keys",
    "lanes",
    "links",
    "members",
    "organizations",
    "outbox",
    "projects",
    "recovery",
    "retention",
    "rolling",
    "schema",
    "sessions",
    "statistics",
    "users",
    "work",
]
