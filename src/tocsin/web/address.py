"""Where a request comes from, past the proxies that are trusted to say so."""

import ipaddress
from collections.abc import Iterable, Sequence

Headers = Iterable[tuple[bytes, bytes]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOPS_MAX = 20


class Addresses:
    """Finds the client's address; forwarded ones count only when a trusted proxy hands them on."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, text: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted)

    def of(self, peer: str | None, headers: Headers) -> str | None:
        """The nearest address that is not a trusted proxy's."""
        if not self._trusted or peer is None or not self.trusts(peer):
            return peer
        forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        for hop in reversed(forwarded.decode("latin-1").split(",")[-_HOPS_MAX:]):
            address = _parse(hop.strip())
            if address is None:
                break
            peer = str(address)
            if not self.trusts(peer):
                break
        return peer


def is_loopback(text: str) -> bool:
    """Whether the address is this machine's own."""
    address = _parse(text)
    return address is not None and address.is_loopback


def bucket_of(address: str | None) -> str:
    """Whose budget a stranger's request counts against: an IPv6 client owns a whole /64."""
    if address is None:
        return "unknown"
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address
