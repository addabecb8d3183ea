"""The cookie that holds a session: how it is found in a request and put into a browser."""

from collections.abc import Iterator

from tocsin.web.replies import Scope

NAME = "better-auth.session_token"
SECURE_NAME = "__Secure-better-auth.session_token"
"""The one behind TLS: browsers let no page without TLS set or replace it."""

SECONDS = 90 * 86_400
"""As long as a session can live; when it ends sooner, the server knows."""

TRIED_MAX = 4


def tokens_of(scope: Scope) -> Iterator[str]:
    """The session tokens of a request, those that only TLS can have set first."""
    found: dict[str, list[str]] = {SECURE_NAME: [], NAME: []}
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key in found and text:
                    found[key].append(text.strip('"'))
    tokens = dict.fromkeys(found[SECURE_NAME] + found[NAME])
    yield from list(tokens)[:TRIED_MAX]


def given(token: str, *, secure: bool) -> list[bytes]:
    """What `Set-Cookie` says to keep a session; the cookie of the other name goes."""
    if not secure:
        return [_cookie(NAME, token, SECONDS, secure=False)]
    return [_cookie(SECURE_NAME, token, SECONDS, secure=True), _cookie(NAME, "", 0, secure=True)]


def taken(*, secure: bool) -> list[bytes]:
    """What `Set-Cookie` says to forget it."""
    names = (SECURE_NAME, NAME) if secure else (NAME,)
    return [_cookie(name, "", 0, secure=secure) for name in names]


def _cookie(name: str, token: str, seconds: int, *, secure: bool) -> bytes:
    end = "; Secure" if secure else ""
    return f"{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{end}".encode()
