"""Which addresses a target may have: our own tables, because `ipaddress.is_global` lets through
NAT64, 6to4 and IPv4-compatible forms of private addresses and the metadata services of clouds.
"""

from collections.abc import Iterable, Sequence
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)

from tocsin.net.errors import AddressRefused, TargetInvalid
from tocsin.net.target import Target, parse_target

Network = IPv4Network | IPv6Network

PASSED_MAX = 10_000

_Range = tuple[int, int]
"""First and last address, as numbers."""


def _range(network: Network | str) -> _Range:
    parsed = ip_network(network)
    return int(parsed.network_address), int(parsed.broadcast_address)


_IPV4_REFUSED = tuple(
    map(
        _range,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
    )
)
_IPV6_GLOBAL = _range("2000::/3")
_IPV6_REFUSED = tuple(map(_range, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))

# Clouds hand out credentials here: no network that merely contains one of them opens it.
_METADATA_IPV4 = frozenset(
    int(IPv4Address(a))
    for a in ("169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200")
)
_METADATA_IPV6 = frozenset({int(IPv6Address("fd00:ec2::254"))})

_MAPPED = _range("::ffff:0:0/96")
# Prefixes whose last 32 bits are an IPv4 address: compatible, SIIT, NAT64.
_LAST_32_BITS = tuple(map(_range, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_NAT64_LOCAL = _range("64:ff9b:1::/48")
_6TO4 = _range("2002::/16")
_TEREDO = _range("2001::/32")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_LOOPBACK = 1  # ::1 alone, of all that looks IPv4-compatible, is an address of its own


def _within(number: int, ranges: Iterable[_Range]) -> bool:
    return any(first <= number <= last for first, last in ranges)


def _embedded(number: int) -> tuple[int, ...]:
    """Every IPv4 address that an IPv6 address carries; a mapped one is not asked for here."""
    low = number & 0xFFFF_FFFF
    found: list[int] = []
    if number != _LOOPBACK and _within(number, _LAST_32_BITS):
        found.append(low)
    if _within(number, (_NAT64_LOCAL,)):
        # RFC 6052 2.2: after a /96 the last 32 bits, after a /48 or /64 around the octet "u".
        if number >> 32 & 0xFFFF_FFFF_FFFF == 0:
            found.append(low)
        else:
            found.append((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
            found.append(number >> 24 & 0xFFFF_FFFF)
    if _within(number, (_6TO4,)):
        found.append(number >> 80 & 0xFFFF_FFFF)
    if _within(number, (_TEREDO,)):
        found += [number >> 64 & 0xFFFF_FFFF, low ^ 0xFFFF_FFFF]
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        found.append(low)
    return tuple(found)


class Guard:
    """Judges addresses; pure. `allow` lets otherwise refused networks through."""

    __slots__ = ("_allow_ipv4", "_allow_ipv6", "_exact", "_https_only", "_passed")

    def __init__(self, allow: Iterable[Network] = (), *, https_only: bool = False) -> None:
        networks = tuple(allow)
        self._allow_ipv4 = tuple(_range(n) for n in networks if n.version == 4)
        self._allow_ipv6 = tuple(_range(n) for n in networks if n.version == 6)
        self._exact = frozenset(
            (n.version, int(n.network_address)) for n in networks if n.prefixlen == n.max_prefixlen
        )
        self._https_only = https_only
        self._passed: set[str] = set()

    def target(self, url: str) -> Target:
        """Parse a URL and check its scheme; raises `TargetInvalid`. Addresses are not judged."""
        target = parse_target(url)
        if self._https_only and target.scheme != "https":
            raise TargetInvalid("the URL must begin with https://")
        return target

    def check(self, address: str) -> None:
        """Raise `AddressRefused`, with nothing in its text, unless the address may be called."""
        if address in self._passed:
            return
        if not self._may(address):
            raise AddressRefused
        if len(self._passed) >= PASSED_MAX:
            self._passed.clear()
        self._passed.add(address)

    def check_all(self, addresses: Sequence[str]) -> None:
        """One bad answer refuses the name: which one is used is not for the name's owner to say."""
        for address in addresses:
            if address not in self._passed:
                self.check(address)

    def _may(self, address: str) -> bool:
        try:
            if ":" not in address:
                return self._may_ipv4(int(IPv4Address(address)))
            if "%" in address:
                return False
            return self._may_ipv6(int(IPv6Address(address)))
        except AddressValueError:
            return False

    def _may_ipv4(self, number: int) -> bool:
        if number in _METADATA_IPV4:
            return (4, number) in self._exact
        return _within(number, self._allow_ipv4) or not _within(number, _IPV4_REFUSED)

    def _may_ipv6(self, number: int) -> bool:
        if number in _METADATA_IPV6:
            return (6, number) in self._exact
        allowed = _within(number, self._allow_ipv6)
        if _within(number, (_MAPPED,)):
            low = number & 0xFFFF_FFFF
            return self._may_ipv4(low) and (allowed or _within(low, self._allow_ipv4))
        if not all(map(self._may_ipv4, _embedded(number))):
            return False
        return allowed or (_within(number, (_IPV6_GLOBAL,)) and not _within(number, _IPV6_REFUSED))
