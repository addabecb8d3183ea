"""The pages of one-time links, for browsers: looking at one changes nothing, its form does.

The token in the path is what a form's own token would be: no other site knows it.
"""

from urllib.parse import parse_qsl

from tocsin.domain.errors import (
    Malformed,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    Refused,
    Unavailable,
)
from tocsin.domain.people import LinkKind
from tocsin.render import link as render
from tocsin.render.link import Field, Page
from tocsin.service.links import Answers, LinkShown
from tocsin.web import cookies
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect
from tocsin.web.native.problems import problem
from tocsin.web.replies import (
    Pairs,
    Receive,
    Scope,
    Send,
    error_headers,
    private_headers,
    read_body,
    send_reply,
)
from tocsin.web.services import Services

PATH = "/link/"
BODY_BYTES_MAX = 16_384
FIELDS_MAX = 10

HTML = b"text/html; charset=utf-8"
CSS = b"text/css; charset=utf-8"

# With `no-referrer` browsers would send their own forms with the origin `null`.
HEADERS: Pairs = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
UNCACHED: Pairs = [*HEADERS, (b"cache-control", b"no-store")]

_NAME = Field(name="name", label="Your name", complete="name")
_EMAIL = Field(name="email", label="E-mail address", type="email", complete="username")
_PRESENT = Field(
    name="password", label="Your password", type="password", complete="current-password"
)
_NEW = Field(
    name="password",
    label="Password",
    type="password",
    hint="At least 10 characters.",
    complete="new-password",
)
_ORGANIZATION = Field(
    name="organization",
    label="Organization",
    hint="The name of a new one, or the slug of one there is.",
    complete="organization",
)


class LinkPages:
    """Answers everything below `/link/`."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self._links = services
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method, token = scope["method"], scope["path"].removeprefix(PATH)
        if token == render.STYLE and method in ("GET", "HEAD"):
            await send_reply(send, 200, render.style(), CSS, HEADERS)
            return
        if method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed(("GET", "HEAD", "POST"))
        given: dict[str, str] = {}
        status, extra = 200, UNCACHED
        try:
            caller = self._gate.admit_stranger(scope, Dialect.NATIVE)
            if method == "POST":
                given = _form(await read_body(scope, receive, BODY_BYTES_MAX))
                opened = await self._links.links.use(
                    caller, self._gate.visitor(scope), token, _answers(given)
                )
                secure = self._gate.origins.secure(scope)
                extra = [*HEADERS, *private_headers(cookies.given(opened.token, secure=secure))]
                page = Page(title="You are signed in", text="You may close this page.")
            else:
                page = _page(await self._links.links.show(token), {}, "")
        except (Refused, Unavailable) as error:
            status = problem(error).status
            extra = [*UNCACHED, *error_headers(error)]
            page = await self._refusal(token, given, error)
        await send_reply(send, status, render.html(page).encode(), HTML, extra)

    async def _refusal(
        self, token: str, given: dict[str, str], error: Refused | Unavailable
    ) -> Page:
        """The form once more, with what is wrong; without one where the link is no good."""
        if isinstance(error, NotFound):
            return Page(
                title="This link does not work",
                text="It works once and for 15 minutes. Ask for a new one.",
            )
        if isinstance(error, RateLimited | Unavailable):
            return Page(title="Not now", text=f"{error.message} Try again in a while.")
        if not given:
            return Page(title="That did not work", text=error.message)
        try:
            return _page(await self._links.links.show(token), given, error.message)
        except (Refused, Unavailable):
            return Page(title="That did not work", text=error.message)


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise Malformed("The form can't be read.") from None
    return dict(pairs)


def _answers(given: dict[str, str]) -> Answers:
    return Answers(
        password=given.get("password", ""),
        name=given.get("name") or None,
        email=given.get("email") or None,
        organization=given.get("organization") or None,
    )


def _page(shown: LinkShown, given: dict[str, str], error: str) -> Page:
    link = shown.link
    fields: tuple[Field, ...]
    if link.kind is LinkKind.FIRST:
        title, button = "Welcome to Tocsin", "Make my account"
        text = "This makes the first account of this server, and an organization for it."
        fields = (_NAME, _EMAIL, _ORGANIZATION, _NEW)
    elif link.kind is LinkKind.RESET:
        title, button = "Choose a password", "Set the password and sign in"
        text = f"This sets the password of {link.email}. All other sessions end."
        fields = (_NEW,)
    elif shown.asks_present:
        title, button = f"Join {shown.organization}", "Join"
        text = f"{link.email} becomes {link.role} of {shown.organization}."
        fields = (_PRESENT,)
    else:
        title, button = f"Join {shown.organization}", "Make my account and join"
        text = f"{link.email} gets an account and becomes {link.role} of {shown.organization}."
        fields = (_NAME, _NEW)
    filled = tuple(
        Field(
            name=one.name,
            label=one.label,
            type=one.type,
            hint=one.hint,
            value="" if one.type == "password" else given.get(one.name, "")[:256],
            complete=one.complete,
        )
        for one in fields
    )
    return Page(title=title, text=text, error=error, button=button, fields=filled)
