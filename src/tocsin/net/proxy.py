"""The operator's proxy: a tunnel (CONNECT) to the very address that the guard has judged.

The proxy is the operator's own, so its address is not judged; what it answers is not trusted more
than a target's answer. No text of an error names it, or repeats what it said.
"""

import asyncio
import re
import socket
from base64 import b64encode
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from tocsin.domain.outcome import Reason
from tocsin.net.errors import SendFailed, TargetInvalid
from tocsin.net.target import parse_target

ANSWER_BYTES_MAX = 16 * 1024

_FORM = re.compile(r"http://(?:([^/?#@\s]*)@)?([^/?#@\s]+:[0-9]+)/?", re.ASCII | re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n", re.ASCII)
_END = b"\r\n\r\n"


class ProxyInvalid(ValueError):
    """The setting is not a proxy's URL; the text repeats nothing of it."""


class Proxy(Struct, frozen=True):
    """Where the proxy is; `host` is a name or an address without brackets.

    `name` tells it from another one, without its credentials. Written out, it shows none.
    """

    host: str
    port: int
    literal: bool
    authorization: str | None = None

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({self.name})"


def parse_proxy(text: str) -> Proxy:
    """A proxy from `http://[user:password@]host:port`; raises `ProxyInvalid`."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ProxyInvalid("must be http://host:port or http://user:password@host:port")
    try:
        target = parse_target(f"http://{match[2]}")
    except TargetInvalid:
        raise ProxyInvalid("has a host or port that is not valid") from None
    authorization = None
    if match[1] is not None:
        user, _, password = match[1].partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        authorization = "Basic " + b64encode(pair).decode()
    literal = bool(target.addresses)
    host = target.addresses[0] if literal else target.host
    return Proxy(host, target.port, literal, authorization)


async def tunnel(sock: socket.socket, proxy: Proxy, address: str, port: int) -> None:
    """Ask the proxy at the other end of the socket for a connection to the address.

    Afterwards the socket speaks to the target. Raises `SendFailed`; who calls sets the time limit
    and closes the socket.
    """
    loop = asyncio.get_running_loop()
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    credentials = ""
    if proxy.authorization is not None:
        credentials = f"proxy-authorization: {proxy.authorization}\r\n"
    request = f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n{credentials}\r\n"
    answer = b""
    try:
        await loop.sock_sendall(sock, request.encode())
        while _END not in answer:
            if len(answer) > ANSWER_BYTES_MAX:
                raise SendFailed(Reason.PROXY_FAILED, "the proxy's answer is too large")
            data = await loop.sock_recv(sock, 4096)
            if not data:
                raise SendFailed(Reason.PROXY_FAILED, "the proxy closed the connection")
            answer += data
    except OSError:
        raise SendFailed(Reason.PROXY_FAILED, "the proxy closed the connection") from None
    status = _STATUS.match(answer)
    if status is None:
        raise SendFailed(Reason.PROXY_FAILED, "the proxy's answer is not HTTP")
    if not 200 <= int(status[1]) < 300:
        raise SendFailed(Reason.PROXY_FAILED, f"the proxy answered {int(status[1])}")
    if not answer.endswith(_END):
        # The target does not speak first: these bytes would become the reply to our request.
        raise SendFailed(Reason.PROXY_FAILED, "the proxy sent more than its answer")
