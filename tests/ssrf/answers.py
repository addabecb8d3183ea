"""What answers inside the network: a name server that does as it is told, and every address."""

import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from types import TracebackType

PORTS = (80, 443)
_A, _AAAA, _NXDOMAIN = 1, 28, 3
READ_SECONDS = 60.0


class Names:
    """A DNS server on 127.0.0.1:53. What it says of a name can be changed at any moment."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {}
        self.asked: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        self._thread = threading.Thread(target=self._run, name="names", daemon=True)
        self._thread.start()

    def say(self, name: str, *answers: Sequence[str]) -> None:
        """From now on the name has these addresses; with several answers, one after the other."""
        self._answers[name] = list(answers)

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                question, peer = self._socket.recvfrom(4096)
                self._socket.sendto(self._reply(question), peer)

    def _reply(self, question: bytes) -> bytes:
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii"))
            at += 1 + question[at]
        name = ".".join(labels).lower()
        (kind,) = struct.unpack_from(">H", question, at + 1)
        known = self._answers.get(name)
        records = [] if known is None else self._records(name, kind, known)
        flags = 0x8580 if known is not None else 0x8580 | _NXDOMAIN
        head = question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
        return head + question[12 : at + 5] + b"".join(records)

    def _records(self, name: str, kind: int, answers: list[Sequence[str]]) -> list[bytes]:
        turn = self.asked[f"{name} {kind}"]
        self.asked[f"{name} {kind}"] += 1
        addresses = [ip_address(one) for one in answers[turn % len(answers)]]
        version = {_A: 4, _AAAA: 6}.get(kind)
        return [
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(one.packed)) + one.packed
            for one in addresses
            if one.version == version
        ]


class Addresses:
    """Takes every connection to any address on the ports, and counts them by address.

    `/redirect/<status>/<host>` is answered with a redirect there, everything else with 204.
    """

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        self.requests: defaultdict[str, list[bytes]] = defaultdict(list)
        self._changed = threading.Condition()
        self._listeners = []
        for port in PORTS:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                listener = socket.create_server((host, port), family=family, backlog=512)
                self._listeners.append(listener)
                threading.Thread(target=self._run, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def wait(self, address: str, seconds: float = 5.0) -> bool:
        """Whether the address gets a connection within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.accepted[address] > 0, seconds)

    def forget(self) -> None:
        """Count from here on."""
        with self._changed:
            self.accepted.clear()
            self.requests.clear()

    def _run(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            address = str(ip_address(connection.getsockname()[0].partition("%")[0]))
            with self._changed:
                self.accepted[address] += 1
                self._changed.notify_all()
            connection.settimeout(READ_SECONDS)
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65_536)
                if not more:
                    return
                data += more
            with self._changed:
                self.requests[address].append(data)
            connection.sendall(_answer(data.split(b" ", 2)[1].decode("latin-1")))


def _answer(path: str) -> bytes:
    parts = path.split("/")
    if parts[1] == "redirect":
        head = f"HTTP/1.1 {parts[2]} Elsewhere\r\nlocation: http://{parts[3]}/\r\n"
    else:
        head = "HTTP/1.1 204 Fine\r\n"
    return f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode()


class World:
    """Both of them; made inside the network by the thread that is in it."""

    def __init__(self) -> None:
        self.names = Names()
        self.addresses = Addresses()

    def __enter__(self) -> "World":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.names.close()
        self.addresses.close()
