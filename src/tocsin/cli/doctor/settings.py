"""Settings that work, and still are no good idea."""

import sys
from collections.abc import Iterator
from ipaddress import ip_address

from tocsin import __version__
from tocsin.cli.doctor.findings import Finding
from tocsin.config import ConfigError, Network, Settings, check_for_nodes, mail_settings

WIDE_BITS = {4: 16, 6: 48}
"""An allowed network with a shorter prefix is more than deliveries are likely to need."""


def examine(given: Settings) -> Iterator[Finding]:
    """Looks at the settings alone."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good", f"Tocsin {__version__} on Python {python}; the settings are valid")
    try:
        check_for_nodes(given)
    except ConfigError as error:
        yield Finding("bad", str(error), "docs/growing.md has what nodes need")
    try:
        mail_settings(given)
    except ConfigError as error:
        yield Finding("bad", str(error), "set both or neither")
    yield from _retention(given)
    yield from _exposure(given)
    yield from _networks(given)


def _retention(given: Settings) -> Iterator[Finding]:
    if given.delivery_hours_max < given.delivery_days_max * 24:
        yield Finding(
            "note",
            f"deliveries may wait for {given.delivery_hours_max} hours, and not for "
            f"TOCSIN_DELIVERY_DAYS_MAX={given.delivery_days_max}: what happened is kept for "
            f"TOCSIN_RETENTION_DAYS={given.retention_days} only",
            "set a longer TOCSIN_RETENTION_DAYS, or a shorter TOCSIN_DELIVERY_DAYS_MAX",
        )
    if given.idempotency_hours > given.retention_days * 24:
        yield Finding(
            "note",
            f"an idempotency key is remembered for {given.idempotency_hours} hours, longer than "
            f"its event, which is kept for TOCSIN_RETENTION_DAYS={given.retention_days}",
            "set a shorter TOCSIN_IDEMPOTENCY_HOURS",
        )


def _exposure(given: Settings) -> Iterator[Finding]:
    try:
        local = ip_address(given.host).is_loopback
    except ValueError:
        local = given.host == "localhost"
    if not local and not given.public_url.startswith("https://"):
        yield Finding(
            "note",
            f"it listens on {given.host}, where others can reach it without TLS",
            "put a proxy with TLS before it and set TOCSIN_PUBLIC_URL to its https address",
        )


def _networks(given: Settings) -> Iterator[Finding]:
    for network in given.allow_networks:
        if network.prefixlen == 0:
            yield Finding(
                "note",
                "TOCSIN_ALLOW_NETWORKS lets every address through: tenants reach your own network",
                "list only the networks that deliveries have to reach",
            )
        elif _wide(network):
            yield Finding(
                "note",
                f"TOCSIN_ALLOW_NETWORKS has {network}, {network.num_addresses:,} addresses, "
                "all of which tenants can reach",
                "list only the networks that deliveries have to reach",
            )


def _wide(network: Network) -> bool:
    return network.prefixlen < WIDE_BITS[network.version] and not network.is_loopback
