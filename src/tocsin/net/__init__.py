"""The way out: names, the SSRF guard and an HTTP/1.1 client of our own."""

from tocsin.net.client import Client, Gate
from tocsin.net.connection import READ_LIMITS, ReadLimits
from tocsin.net.dial import PhaseLimits
from tocsin.net.errors import (
    AddressRefused,
    NameNotResolved,
    NetError,
    NotSent,
    SendFailed,
    TargetInvalid,
)
from tocsin.net.guard import Guard
from tocsin.net.lookup import Lookup
from tocsin.net.proxy import Proxy, ProxyInvalid, parse_proxy
from tocsin.net.resolver import Resolver
from tocsin.net.target import Target, parse_target
from tocsin.net.tls import default_ssl_context

__all__ = [
    "READ_LIMITS",
    "AddressRefused",
    "Client",
    "Gate",
    "Guard",
    "Lookup",
    "NameNotResolved",
    "NetError",
    "NotSent",
    "PhaseLimits",
    "Proxy",
    "ProxyInvalid",
    "ReadLimits",
    "Resolver",
    "SendFailed",
    "Target",
    "TargetInvalid",
    "default_ssl_context",
    "parse_proxy",
    "parse_target",
]
