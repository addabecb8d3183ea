"""Applications without an API: what a node that only sends answers, and the metrics' own port."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from tocsin.domain.errors import RouteNotFound
from tocsin.telemetry.exposition import Metrics
from tocsin.web import health, metrics
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, refuse
from tocsin.web.publish import PublishHandler
from tocsin.web.replies import Receive, Scope, Send, send_refusal
from tocsin.web.services import Services

Page = Callable[[Scope, Send], Awaitable[None]]
"""Answers one request; raises what it is refused with."""


class BareSite:
    """An application of these pages, by path, and nothing else."""

    publish: PublishHandler | None = None

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages

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
            page = self._pages.get(scope["path"])
            if page is None:
                raise RouteNotFound()
            await page(scope, send)
        except Exception as error:
            await send_refusal(send, refuse(scope, error))


def engine_site(services: Services) -> BareSite:
    """Of a node with `TOCSIN_ROLE=engine`: whether it is there, and its metrics for operators."""
    about = partial(health.tell, services.health)
    page = metrics.MetricsPage(services, Gate(services))
    return BareSite({**dict.fromkeys(health.PATHS, about), metrics.PATH: page})


def metrics_site(of: Metrics) -> BareSite:
    """Of the metrics' own port: for everybody."""
    return BareSite({metrics.PATH: partial(metrics.tell, of)})
