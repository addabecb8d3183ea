"""Signing in and out, one's own sessions and password, and one-time links."""

from contextlib import suppress
from typing import Any

from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import Unauthenticated
from tocsin.domain.permissions import Caller
from tocsin.service.links import Answers
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.dialects import Dialect
from tocsin.web.native import people_views
from tocsin.web.native.errors import READS, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.people_views import DeviceOut, LinkShownOut, SessionOut
from tocsin.web.native.views import ListOut

CHANGES = (*READS, 409, 413, 415)

NOBODY: list[dict[str, list[str]]] = [{}]
SIGNED_IN: list[dict[str, list[str]]] = [{"session": []}]


class SignInIn(Struct, forbid_unknown_fields=True):
    """Who signs in, and to which of their organizations."""

    email: str
    password: str
    organization: str | None = None


class SessionChangeIn(Struct, forbid_unknown_fields=True):
    """What the session is about from now on; what is left out stays."""

    organization: str | UnsetType = UNSET
    project: str | UnsetType | None = UNSET


class PasswordIn(Struct, forbid_unknown_fields=True):
    """A new password for the present one."""

    current_password: str
    new_password: str


class LinkIn(Struct, forbid_unknown_fields=True):
    """What the person fills in who uses a link."""

    password: str
    name: str | None = None
    email: str | None = None
    organization: str | None = None


@post(
    "/auth/sign-in",
    opt={"open": True},
    security=NOBODY,
    status_code=200,
    responses=problems(*CHANGES),
)
async def sign_in(request: Call, data: JSONBody[SignInIn]) -> SessionOut:
    """Sign in with e-mail address and password; the session comes in a cookie."""
    opened = await request.services.people.sign_in(
        request.caller,
        request.visitor(),
        email=data.email,
        password=data.password,
        organization=data.organization,
        replaces=await _present(request),
    )
    return await _entered(request, opened.token)


async def _present(call: Call) -> Caller | None:
    """Whoever is signed in in the same browser: that session ends."""
    scope: Any = call.scope
    with suppress(Unauthenticated):
        return await call.edge.gate.person(scope, Dialect.NATIVE)
    return None


async def _entered(call: Call, token: str) -> SessionOut:
    """The session that a token has just been made for, which goes into the browser."""
    sessions, before = call.services.sessions, call.caller
    caller = await sessions.authenticate(token, dialect=Dialect.NATIVE, address=before.address)
    call.sign_in(token)
    return people_views.signed_in(await sessions.read(caller))


@post(
    "/auth/sign-out",
    opt={"person": True},
    security=SIGNED_IN,
    status_code=204,
    responses=problems(*READS),
)
async def sign_out(request: Call) -> None:
    """Sign out: the session ends, everywhere and at once."""
    await request.services.sessions.end(request.caller)
    request.sign_out()


@get("/auth/session", opt={"person": True}, security=SIGNED_IN, responses=problems(*READS))
async def read_session(request: Call) -> SessionOut:
    """The present session: who you are, and what it is about."""
    return people_views.signed_in(await request.services.sessions.read(request.caller))


@patch("/auth/session", opt={"person": True}, security=SIGNED_IN, responses=problems(*CHANGES))
async def change_session(request: Call, data: JSONBody[SessionChangeIn]) -> SessionOut:
    """Turn the session to another organization or project of yours."""
    sessions = request.services.sessions
    token = await sessions.switch(
        request.caller, organization=data.organization, project=data.project
    )
    if token is not None:
        return await _entered(request, token)
    return people_views.signed_in(await sessions.read(request.caller))


@get(
    "/auth/sessions",
    opt={"person": True},
    security=SIGNED_IN,
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_sessions(request: Call) -> ListOut[DeviceOut]:
    """Your own sessions that have not ended."""
    caller = request.caller
    place = {"list": "sessions", "organization": caller.id or ""}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.sessions.list(caller, page)
    return answer(
        request, listing, lambda one: people_views.device(one, caller.session_id), **place
    )


@delete(
    "/auth/sessions/{id:str}", opt={"person": True}, security=SIGNED_IN, responses=problems(*READS)
)
async def end_session(request: Call, id: FromPath[str]) -> None:
    """End one of your sessions, at once."""
    await request.services.sessions.end(request.caller, id)


@post(
    "/auth/password",
    opt={"person": True},
    security=SIGNED_IN,
    status_code=204,
    responses=problems(*CHANGES),
)
async def change_password(request: Call, data: JSONBody[PasswordIn]) -> None:
    """Change your password: your other sessions end, and this one is renewed."""
    opened = await request.services.people.change_password(
        request.caller,
        request.visitor(),
        present=data.current_password,
        new=data.new_password,
    )
    request.sign_in(opened.token)


@get("/auth/links/{token:str}", opt={"open": True}, security=NOBODY, responses=problems(*READS))
async def show_link(request: Call, token: FromPath[str]) -> LinkShownOut:
    """What a one-time link will do; looking uses nothing up."""
    return people_views.link_shown(await request.services.links.show(token))


@post(
    "/auth/links/{token:str}",
    opt={"open": True},
    security=NOBODY,
    status_code=200,
    responses=problems(*CHANGES),
)
async def use_link(request: Call, token: FromPath[str], data: JSONBody[LinkIn]) -> SessionOut:
    """Use a one-time link: do what it is for, and sign in."""
    answers = Answers(
        password=data.password,
        name=data.name,
        email=data.email,
        organization=data.organization,
    )
    opened = await request.services.links.use(request.caller, request.visitor(), token, answers)
    return await _entered(request, opened.token)


HANDLERS: tuple[Any, ...] = (
    sign_in,
    sign_out,
    read_session,
    change_session,
    list_sessions,
    end_session,
    change_password,
    show_link,
    use_link,
)

STRUCTS = (
    SignInIn,
    SessionChangeIn,
    PasswordIn,
    LinkIn,
    SessionOut,
    DeviceOut,
    LinkShownOut,
)
