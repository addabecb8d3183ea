"""Serving `/api/docs`: one page and its files, for everybody, loading nothing from elsewhere."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from tocsin.channels import channel_types
from tocsin.domain.errors import MethodNotAllowed, RouteNotFound
from tocsin.web.replies import Pairs, Scope, Send, send_reply

PATH = "/api/docs"
HTML = b"text/html; charset=utf-8"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Pairs = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]


class Reference:
    """The document and the pages made from it, each made when it is asked for first.

    `schema` is what the framework knows of the routes; what is imported here is imported then.
    """

    def __init__(self, schema: Callable[[], dict[str, Any]], base: str) -> None:
        self._schema = schema
        self._base = base
        self._document: dict[str, Any] | None = None
        self._encoded: bytes | None = None
        self._files: dict[str, tuple[bytes, bytes]] = {}
        self._making = asyncio.Lock()

    def document(self) -> bytes:
        """The OpenAPI document as JSON."""
        if self._encoded is None:
            self._encoded = msgspec.json.encode(self._whole())
        return self._encoded

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request below `/api/docs`."""
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(("GET", "HEAD"))
        if not self._files:
            async with self._making:
                if not self._files:
                    self._files = await asyncio.to_thread(self._make)
        name = scope["path"].removeprefix(PATH).strip("/")
        if name not in self._files:
            raise RouteNotFound()
        body, content_type = self._files[name]
        await send_reply(send, 200, body, content_type, HEADERS)

    def _whole(self) -> dict[str, Any]:
        from tocsin.web.reference.all import DIALECTS
        from tocsin.web.reference.document import whole

        if self._document is None:
            self._document = whole(self._schema(), DIALECTS)
        return self._document

    def _make(self) -> dict[str, tuple[bytes, bytes]]:
        from tocsin.render import reference
        from tocsin.web.reference.all import DIALECTS
        from tocsin.web.reference.page import model

        types = list(channel_types().values())
        page = reference.page(model(self._whole(), DIALECTS, types, self._base))
        files = {
            name: (reference.asset(name), content_type.encode())
            for name, content_type in reference.ASSETS.items()
        }
        return files | {"": (page.encode(), HTML)}
