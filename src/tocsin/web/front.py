"""The first thing a request meets: health, publishing, then the framework with all other calls."""

import re
import secrets
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

from litestar import Litestar

from tocsin.clock import Clock
from tocsin.telemetry import REQUEST_ID
from tocsin.telemetry.counts import RequestCounts
from tocsin.web import health
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, dialect_of, refuse
from tocsin.web.link_pages import PATH as LINKS
from tocsin.web.link_pages import LinkPages
from tocsin.web.metrics import PATH as METRICS
from tocsin.web.metrics import MetricsPage
from tocsin.web.publish import PublishHandler
from tocsin.web.reference.pages import PATH as REFERENCE
from tocsin.web.reference.pages import Reference
from tocsin.web.replies import (
    ClientGone,
    Message,
    Receive,
    Scope,
    Send,
    private_headers,
    send_refusal,
)
from tocsin.web.services import Health

# A method that no route has: the framework answers it with the methods that the path has.
ASK = "ASK"

READING = ("GET", "HEAD", "OPTIONS")

_LINK = re.compile(r"(/links?/)[^/]{20,}")


class Front:
    """The ASGI application."""

    def __init__(
        self,
        *,
        framework: Litestar,
        publish: PublishHandler,
        gate: Gate,
        ready: Health,
        reference: Reference,
        links: LinkPages,
        metrics: MetricsPage,
        counts: RequestCounts,
        clock: Clock,
    ) -> None:
        self._framework = framework
        self.publish = publish
        self._gate = gate
        self._health = ready
        self._reference = reference
        self._links = links
        self._metrics = metrics
        self.counts = counts
        self._monotonic = clock.monotonic

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Start and stop what the framework has to start and stop."""
        return self._framework.lifespan()

    @property
    def framework(self) -> Litestar:
        """The framework's application, for tests that read its routes."""
        return self._framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        # A copy: the server keeps its own scope and looks at the method to frame the reply.
        scope = dict(scope)
        path = scope["path"]
        # What is told of a request elsewhere: the token of a link is a secret.
        scope["tocsin.path"] = _LINK.sub(r"\1…", path)
        dialect = scope["tocsin.dialect"] = dialect_of(path)
        published = scope["method"] == "POST" and dialect is Dialect.NATIVE
        if published and (match := self.publish.matches(scope)):
            await self.publish(scope, receive, send, match)  # which counts for itself
            return
        send = self._counted(scope, send)
        if dialect is Dialect.NATIVE:
            if path in health.PATHS:
                await self._show(health.tell(self._health, scope, send), scope, send)
                return
            if path == METRICS:
                await self._show(self._metrics(scope, send), scope, send)
                return
            if path.startswith(LINKS):
                await self._show(self._links(scope, receive, send), scope, send)
                return
            if path == REFERENCE or path.startswith(REFERENCE + "/"):
                await self._show(self._reference(scope, send), scope, send)
                return
        elif dialect is Dialect.HOOKSTREAM:
            scope["tocsin.request_id"] = f"req_{secrets.token_hex(6)}"
            REQUEST_ID.set(scope["tocsin.request_id"])
            send = self._marked(scope, send)
        await self._call(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                if given := scope.get("tocsin.cookies"):
                    message["headers"] = [*message["headers"], *private_headers(given)]
            await send(message)

        if scope["method"] == "HEAD":
            scope["method"] = "GET"
        elif scope["method"] == "OPTIONS":
            scope["method"], scope["tocsin.asks"] = ASK, True
        try:
            await self._framework(scope, receive, sending)  # type: ignore[arg-type]
        except ClientGone:
            return
        except Exception as error:
            if started:
                raise
            await send_refusal(send, refuse(scope, error))

    async def _show(self, page: Awaitable[None], scope: Scope, send: Send) -> None:
        try:
            await page
        except ClientGone:
            return
        except Exception as error:
            await send_refusal(send, refuse(scope, error))

    def _counted(self, scope: Scope, send: Send) -> Send:
        """Every reply is counted, with the time until its head."""
        method = "read" if scope["method"] in READING else "write"
        calls = self.counts.calls(scope["tocsin.dialect"].value, method)
        began = self._monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                calls.answered(message["status"], self._monotonic() - began)
            await send(message)

        return counted

    def _marked(self, scope: Scope, send: Send) -> Send:
        """Every hookstream reply carries its id and what is left of the budget."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                budget = self._gate.budget(scope)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", scope["tocsin.request_id"].encode()),
                    (b"ratelimit-limit", b"%d" % budget.limit),
                    (b"ratelimit-remaining", b"%d" % budget.remaining),
                    (b"ratelimit-reset", b"%d" % budget.reset_seconds),
                ]
            await send(message)

        return marked
