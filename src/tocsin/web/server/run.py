"""The server's life inside the process: bind, serve, finish what is under way."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import uvicorn

from tocsin.config import Settings
from tocsin.web.publish import PublishHandler
from tocsin.web.replies import Receive, Scope, Send
from tocsin.web.server.bounds import Bounds
from tocsin.web.server.protocol import BoundedHttp

IDLE_SECONDS = 75
SHUTDOWN_SECONDS = 10
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process, not to its server."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        second = 0
        while not await self.on_tick(second * 10):
            second += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), 1.0)


class Application(Protocol):
    """What is served; usual publishes go to `publish` at once, if there is one."""

    @property
    def publish(self) -> PublishHandler | None: ...

    def lifespan(self) -> AbstractAsyncContextManager[None]: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class HttpServer:
    """Serves the application from `async with` on; leaving it finishes requests under way.

    `port` takes the place of `settings.port`; a `listener` that of both it and `settings.host`,
    and is closed. Binding raises OSError on entering. `finished` ends when the server does,
    whatever the reason.
    """

    def __init__(
        self,
        app: Application,
        settings: Settings,
        *,
        port: int | None = None,
        listener: socket.socket | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._port = settings.port if port is None else port
        self._listener = listener
        self.bounds = bounds or Bounds(settings)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._address = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """The address and port that are bound."""
        return self._address

    async def __aenter__(self) -> "HttpServer":
        listener = self._listener or _bind(self._settings.host, self._port)
        self._address = listener.getsockname()[:2]
        protocol = type(
            "BoundedHttp", (BoundedHttp,), {"bounds": self.bounds, "publish": self._app.publish}
        )
        config = uvicorn.Config(
            self._app,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._serve(server, listener))
        listening = asyncio.ensure_future(server.listening.wait())
        await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def finished(self) -> None:
        """Wait until the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Take no new connection, finish what is under way; safe to call twice."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        self._server.leaving.set()
        await asyncio.wait({self._task})
        self._server = None

    async def _serve(self, server: _Server, listener: socket.socket) -> None:
        # The framework's lifespan must be left by the task that entered it.
        async with self._app.lifespan():
            await server.serve([listener])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
