"""How names become addresses: c-ares, or threads of our own where c-ares can't be used.

Never the event loop's `getaddrinfo`: a few names that hang block it for everybody.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import aiodns

from tocsin.net.errors import NameNotResolved

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name, best first; raises `NameNotResolved`, and may be cancelled."""

TRY_SECONDS = 1.0
TRIES = 3


@asynccontextmanager
async def system_lookup(threads_max: int) -> AsyncIterator[Lookup]:
    """A lookup that honours the hosts file and the resolver settings of the machine."""
    try:
        resolver = aiodns.DNSResolver(timeout=TRY_SECONDS, tries=TRIES)
    except Exception:  # c-ares needs files and kernel objects that a sandbox may not give
        with_threads = thread_lookup(threads_max)
    else:
        try:
            yield cares_lookup(resolver)
        finally:
            await resolver.close()
        return
    async with with_threads as lookup:
        yield lookup


def cares_lookup(resolver: aiodns.DNSResolver) -> Lookup:
    """Ask c-ares: any number of names at once, no thread per name."""

    async def lookup(host: str) -> Sequence[str]:
        try:
            found = await resolver.getaddrinfo(
                host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM
            )
        except aiodns.error.DNSError as error:
            if error.args[0] == aiodns.error.ARES_ENODATA:
                # c-ares keeps an answer without addresses for an hour, whatever DNS says of it.
                with suppress(Exception):
                    resolver._channel.reinit()
            raise NameNotResolved from None
        return [_text(node.addr[0]) for node in found.nodes]

    return lookup


@asynccontextmanager
async def thread_lookup(threads_max: int) -> AsyncIterator[Lookup]:
    """Ask the C library in our own threads; one that hangs keeps its thread until it is over."""
    threads = ThreadPoolExecutor(threads_max, thread_name_prefix="tocsin-names")
    loop = asyncio.get_running_loop()

    def ask(host: str) -> Sequence[str]:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in found]

    async def lookup(host: str) -> Sequence[str]:
        try:
            return await loop.run_in_executor(threads, ask, host)
        except (OSError, UnicodeError):
            raise NameNotResolved from None

    try:
        yield lookup
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _text(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
