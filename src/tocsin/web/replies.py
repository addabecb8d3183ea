"""Finished replies, and how they are sent, without any framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from msgspec import Struct

from tocsin.domain.errors import (
    MethodNotAllowed,
    PayloadTooLarge,
    RateLimited,
    TocsinError,
    Unauthenticated,
    Unavailable,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Pairs = list[tuple[bytes, bytes]]

JSON = b"application/json"


class Refusal(Struct, frozen=True):
    """An error as its dialect tells it."""

    status: int
    content_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ClientGone(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


async def send_reply(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Pairs | None = None
) -> None:
    """Send a whole reply."""
    pairs = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if headers:
        pairs += headers
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Send an error."""
    await send_reply(
        send, refusal.status, refusal.body, refusal.content_type, list(refusal.headers)
    )


def error_headers(error: TocsinError) -> tuple[tuple[bytes, bytes], ...]:
    """What an error says in headers, the same in every dialect."""
    match error:
        case Unauthenticated():
            return ((b"www-authenticate", b"Bearer"), (b"connection", b"close"))
        case PayloadTooLarge():
            return ((b"connection", b"close"),)
        case RateLimited() | Unavailable():
            return ((b"retry-after", b"%d" % max(1, error.retry_after_seconds)),)
        case MethodNotAllowed():
            return ((b"allow", ", ".join(error.allowed).encode()),)
    return ()


def shown_message(error: TocsinError) -> str:
    """The error's text; what is no caller's business stays inside."""
    return "Something went wrong on our side." if error.code == "internal" else error.message


def private_headers(cookies: list[bytes]) -> Pairs:
    """The headers of a reply that signs somebody in or out."""
    return [(b"cache-control", b"no-store"), *((b"set-cookie", one) for one in cookies)]


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The request's body; raises PayloadTooLarge before reading past the limit."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:19]) > bytes_max:
            raise _too_large(bytes_max)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > bytes_max:
            raise _too_large(bytes_max)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise ClientGone()


def _too_large(bytes_max: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {bytes_max} bytes.")
