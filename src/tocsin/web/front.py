"""The first thing a request meets: health, publishing, then the framework with all other calls."""

import secrets
from contextlib import AbstractAsyncContextManager

from litestar import Litestar

from tocsin.domain.errors import MethodNotAllowed
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, dialect_of, refuse
from tocsin.web.publish import PublishHandler
from tocsin.web.reference.pages import PATH as REFERENCE
from tocsin.web.reference.pages import Reference
from tocsin.web.replies import ClientGone, Message, Receive, Scope, Send, send_refusal, send_reply
from tocsin.web.services import Health

# A method that no route has: the framework answers it with the methods that the path has.
ASK = "ASK"


class Front:
    """The ASGI application."""

    def __init__(
        self,
        *,
        framework: Litestar,
        publish: PublishHandler,
        gate: Gate,
        health: Health,
        reference: Reference,
    ) -> None:
        self._framework = framework
        self._publish = publish
        self._gate = gate
        self._health = health
        self._reference = reference

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
        path = scope["tocsin.path"] = scope["path"]
        dialect = scope["tocsin.dialect"] = dialect_of(path)
        if dialect is Dialect.NATIVE:
            if scope["method"] == "POST" and (match := self._publish.matches(scope)):
                await self._publish(scope, receive, send, match)
                return
            if path in ("/healthz", "/readyz"):
                await self._tell_health(scope, send)
                return
            if path == REFERENCE or path.startswith(REFERENCE + "/"):
                await self._show_reference(scope, send)
                return
        elif dialect is Dialect.HOOKSTREAM:
            scope["tocsin.request_id"] = f"req_{secrets.token_hex(6)}"
            send = self._marked(scope, send)
        await self._call(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
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

    async def _tell_health(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await send_refusal(send, refuse(scope, MethodNotAllowed(("GET", "HEAD"))))
        elif scope["path"] == "/healthz":
            await send_reply(send, 200, b'{"status":"ok"}')
        elif self._health.ready():
            await send_reply(send, 200, b'{"status":"ready"}')
        else:
            retry = [(b"retry-after", b"1")]
            await send_reply(send, 503, b'{"status":"not ready"}', headers=retry)

    async def _show_reference(self, scope: Scope, send: Send) -> None:
        try:
            await self._reference(scope, send)
        except Exception as error:
            await send_refusal(send, refuse(scope, error))

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
