"""`/metrics`: for operators on the service's own port, open on one of its own (`bare.py`)."""

from collections.abc import Iterator

import tocsin
from tocsin.config import Settings
from tocsin.domain.errors import Forbidden, MethodNotAllowed
from tocsin.telemetry import families as of
from tocsin.telemetry.exposition import CONTENT_TYPE, Metrics
from tocsin.telemetry.instruments import Sample
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect
from tocsin.web.replies import Scope, Send, send_reply
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
        await tell(self._services.metrics, scope, send)


async def tell(metrics: Metrics, scope: Scope, send: Send) -> None:
    """Answer one request to whoever asks; raises what it is refused with."""
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(("GET", "HEAD"))
    await send_reply(send, 200, await metrics.text(), CONTENT_TYPE.encode())


def samples(health: Health, settings: Settings) -> Iterator[Sample]:
    """What runs, and whether it can work."""
    store = "postgres" if settings.postgres else "sqlite"
    yield Sample(of.BUILD_INFO, (tocsin.__version__, store), 1)
    yield Sample(of.READY, (), health.ready())
