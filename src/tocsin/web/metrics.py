"""`/metrics`: for operators on the service's own port, open on one of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import tocsin
from tocsin.config import Settings
from tocsin.domain.errors import Forbidden, MethodNotAllowed, RouteNotFound
from tocsin.telemetry import families as of
from tocsin.telemetry.exposition import CONTENT_TYPE, Metrics
from tocsin.telemetry.instruments import Sample
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, refuse
from tocsin.web.publish import PublishHandler
from tocsin.web.replies import Receive, Scope, Send, send_refusal, send_reply
from tocsin.web.services import Health, Services

PATH = "/metrics"


class MetricsPage:
    """The page among the service's others: it takes the operator token."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self._services = services
        self._gate = gate

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request; raises what it is refused with."""
        caller = await self._gate.admit(scope, Dialect.NATIVE)
        if caller.kind != "operator":
            raise Forbidden("This call needs the operator token.")
        await _tell(self._services.metrics, scope, send)


class MetricsSite:
    """The application of the metrics' own port: it has this page for everybody, and no other."""

    publish: PublishHandler | None = None

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

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
            if scope["path"] != PATH:
                raise RouteNotFound()
            await _tell(self._metrics, scope, send)
        except Exception as error:
            await send_refusal(send, refuse(scope, error))


async def _tell(metrics: Metrics, scope: Scope, send: Send) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(("GET", "HEAD"))
    await send_reply(send, 200, await metrics.text(), CONTENT_TYPE.encode())


def samples(health: Health, settings: Settings) -> Iterator[Sample]:
    """What runs, and whether it can work."""
    store = "postgres" if settings.postgres else "sqlite"
    yield Sample(of.BUILD_INFO, (tocsin.__version__, store), 1)
    yield Sample(of.READY, (), health.ready())
