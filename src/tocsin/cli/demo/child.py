"""The service of the demo: a child process on a temporary directory, as an operator runs it."""

import asyncio
import os
import sys
from collections import deque
from pathlib import Path
from types import TracebackType

from tocsin.cli.address import URL_FILE
from tocsin.cli.errors import CommandFailed
from tocsin.cli.server import TOKEN_FILE

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
LOG_LINES_KEPT = 30


class Service:
    """`tocsin serve` while it is entered; `url` and `token` are how to use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        self.url = ""
        self.token = ""

    async def __aenter__(self) -> "Service":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tocsin", "serve"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(),
            # Ctrl-C is for the demo, which then stops the service in its own order.
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read_log())
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._up()
        except BaseException as error:
            await self.__aexit__(None, None, None)
            if isinstance(error, TimeoutError):
                raise CommandFailed(self._trouble("did not start in time")) from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reading

    async def ended(self) -> None:
        """Return never while the service lives; raises when it has ended by itself."""
        await self._process.wait()
        await self._reading
        raise CommandFailed(self._trouble("ended by itself"))

    def _environment(self) -> dict[str, str]:
        """Ours, without the settings of a real installation on this machine."""
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("TOCSIN_")}
        return inherited | {
            "TOCSIN_PORT": "0",
            "TOCSIN_DATA_DIR": str(self._folder / "data"),
            "TOCSIN_CONFIG": str(self._folder / "none.toml"),
            "TOCSIN_ALLOW_NETWORKS": "127.0.0.0/8",
            "TOCSIN_DISK_RESERVE_MB": "0",
            "TOCSIN_LOG_LEVEL": "warning",
            "PYTHONUNBUFFERED": "1",
        }

    async def _up(self) -> None:
        url_file = self._folder / "data" / URL_FILE
        while not url_file.exists():
            if self._process.returncode is not None:
                await self._reading
                raise CommandFailed(self._trouble("could not start"))
            await asyncio.sleep(POLL_SECONDS)
        self.url = url_file.read_text().strip()
        self.token = url_file.with_name(TOKEN_FILE).read_text().strip()

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._log.append(line.decode(errors="replace").rstrip())

    def _trouble(self, what: str) -> str:
        return "\n".join([f"the service {what}", *self._log])
