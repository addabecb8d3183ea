"""All calls of the native dialect."""

from litestar import Router

from tocsin.web.calls import native_guard
from tocsin.web.native import (
    attempts,
    audit,
    auth,
    backup,
    channels,
    jobs,
    keys,
    log,
    master_key,
    organizations,
    people,
    statistics,
    views,
)
from tocsin.web.native.problems import Problem
from tocsin.web.publish import AcceptedOut, BatchIn, BatchOut, EventIn

ROUTER = Router(
    "/api/v1",
    route_handlers=[
        *organizations.HANDLERS,
        *keys.HANDLERS,
        *channels.HANDLERS,
        *log.HANDLERS,
        *jobs.HANDLERS,
        *attempts.HANDLERS,
        *statistics.HANDLERS,
        *audit.HANDLERS,
        *backup.HANDLERS,
        *master_key.HANDLERS,
        *auth.HANDLERS,
        *people.HANDLERS,
    ],
    guards=[native_guard],
    tags=["Tocsin"],
)

STRUCTS = (
    Problem,
    organizations.NamedIn,
    organizations.RenamedIn,
    keys.KeyIn,
    channels.ChannelIn,
    channels.ChannelChangeIn,
    channels.RotationIn,
    jobs.RecoverIn,
    EventIn,
    BatchIn,
    AcceptedOut,
    BatchOut,
    views.ChannelOut,
    views.EventOut,
    views.DeliveryOut,
    *auth.STRUCTS,
    *people.STRUCTS,
)
