"""What a node without an API answers on its port: whether it is there, and its metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tocsin.domain.errors import RouteNotFound
from tocsin.web import health
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, refuse
from tocsin.web.metrics import PATH as METRICS
from tocsin.web.metrics import MetricsPage
from tocsin.web.publish import PublishHandler
from tocsin.web.replies import Receive, Scope, Send, send_refusal
from tocsin.web.services import Services


class BareSite:
    """The application of a node with `TOCSIN_ROLE=engine`."""

    publish: PublishHandler | None = None

    def __init__(self, services: Services) -> None:
        self._health = services.health
        self._metrics = MetricsPage(services, Gate(services))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """There is nothing to start or to stop."""
        yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        scope["tocsin.dialect"] = Dialect.NATIVE
        try:
            if scope["path"] in health.PATHS:
                await health.tell(self._health, scope, send)
            elif scope["path"] == METRICS:
                await self._metrics(scope, send)
            else:
                raise RouteNotFound()
        except Exception as error:
            await send_refusal(send, refuse(scope, error))
