"""A small local receiver of webhooks: takes a request, checks its signatures, answers.

For trying things out: `listen` and `demo` stand on it. It is no server for the open internet.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

from tocsin.crypto.ed25519 import PUBLIC_PREFIX, check_public_key
from tocsin.crypto.signing import SECRET_PREFIX, decode_secret, hookstream_signature, verify

HEAD_BYTES_MAX = 32_768
BODY_BYTES_MAX = 2_097_152
READ_SECONDS = 30.0
PHRASES = {200: "OK", 401: "Unauthorized", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Arrival:
    """One request that came in, what its signatures are worth, and how it was answered."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    proofs: dict[str, bool]
    status: int

    @property
    def verified(self) -> bool | None:
        """Whether every secret that is known confirms the request; None when none is known."""
        return all(self.proofs.values()) if self.proofs else None


@dataclass
class Secrets:
    """What a receiver knows of its sender: `whsec_…` secrets and `whpk_…` keys, and others for
    hookstream's header.

    Of several standard ones one has to fit, as while one is being rotated.
    """

    standard: tuple[str, ...] = ()
    hookstream: tuple[str, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[str]) -> "Secrets":
        """Sort them by their form; ValueError for one that only looks standard."""
        given = tuple(secrets)
        standard = tuple(one for one in given if one.startswith((SECRET_PREFIX, PUBLIC_PREFIX)))
        for one in standard:
            (decode_secret if one.startswith(SECRET_PREFIX) else check_public_key)(one)
        return cls(standard, tuple(one for one in given if one not in standard))

    def check(self, headers: dict[str, str], body: bytes, now_s: int) -> dict[str, bool]:
        """Which header proves the request, of those this receiver can check."""
        proofs = {}
        if self.standard:
            id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
            signatures = headers.get("webhook-signature", "")
            proofs["webhook-signature"] = any(
                verify(one, id, timestamp, signatures, body, now_s) for one in self.standard
            )
        if self.hookstream:
            given = headers.get("x-hookstream-signature", "").encode()
            proofs["x-hookstream-signature"] = any(
                hmac.compare_digest(hookstream_signature(one, body).encode(), given)
                for one in self.hookstream
            )
        return proofs


@dataclass
class Answers:
    """How arrivals are answered: 401 where a signature is wrong, 500 to the first so many."""

    status: int = 200
    fail_first: int = 0

    def next(self, verified: bool | None) -> int:
        """The status for the next arrival."""
        if verified is False:
            return 401
        if self.fail_first > 0:
            self.fail_first -= 1
            return 500
        return self.status


@dataclass
class Receiver:
    """Listens while it is entered. `told` is called with each arrival once it was answered.

    `secrets_of` and `answers_of` say by path what is known and how to answer. ValueError or OSError
    on entering means that the address can't be listened on.
    """

    told: Callable[[Arrival], None]
    secrets_of: Callable[[str], Secrets]
    answers_of: Callable[[str], Answers]
    host: str = "127.0.0.1"
    port: int = 0
    count: int = 0
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, limit=HEAD_BYTES_MAX
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where to send to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, ValueError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # The sender broke off or speaks no HTTP; that is its loss.
        except asyncio.CancelledError:
            pass  # The receiver is closing; nobody waits for this task's end but that.
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request and answer it; false when the connection is over."""
        head = await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(READ_SECONDS):
            method, path, headers = read_head(head)
            body = await read_body(reader, headers)
        proofs = self.secrets_of(path).check(headers, body, int(time.time()))
        verified = all(proofs.values()) if proofs else None
        status = self.answers_of(path).next(verified)
        self.count += 1
        arrival = Arrival(self.count, method, path, headers, body, proofs, status)
        text = b"" if status in (204, 304) else f"{PHRASES.get(status, status)}\n".encode()
        length = "" if status in (204, 304) else f"content-length: {len(text)}\r\n"
        keep = headers.get("connection", "").lower() != "close"
        close = "" if keep else "connection: close\r\n"
        reply = f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n{length}{close}\r\n"
        try:
            writer.write(reply.encode() + text)
            await writer.drain()
        finally:
            self.told(arrival)
        return keep


def read_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers (names in lower case) of a request; ValueError if it is none."""
    first, *rest = head.decode("latin-1").split("\r\n")
    method, path, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no HTTP/1 request")
    headers = {}
    for line in filter(None, rest):
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header without a colon")
        headers[name.lower()] = value.strip()
    return method, path, headers


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body, by its length or in chunks; ValueError when it is too large."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= BODY_BYTES_MAX:
            raise ValueError("too large")
        return await reader.readexactly(length)
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if size < 0 or len(body) + size > BODY_BYTES_MAX:
            raise ValueError("too large")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body
