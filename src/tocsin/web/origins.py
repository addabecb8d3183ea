"""Which page a request comes from: no other site's may write with somebody's cookie."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from tocsin.config import Settings
from tocsin.domain.errors import Forbidden
from tocsin.web.address import Addresses
from tocsin.web.replies import Scope

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_PORTS = {"http": 80, "https": 443}
_LOOKED_AT = (b"origin", b"sec-fetch-site", b"host", b"referer", b"user-agent")

Origin = tuple[str, str, int]


class Origins:
    """Judges where a write comes from, and knows by which address people reach this server."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._addresses = addresses
        self._public_url = settings.public_url.rstrip("/")
        self._public = _origin(settings.public_url)
        self._trusted = {_origin(one) for one in settings.trusted_origins} | {self._public}
        self._trusted -= {None}

    def secure(self, scope: Scope) -> bool:
        """Whether people reach the server by TLS: its public address says so, or the proxy does."""
        return self._public_url.startswith("https://") or self._scheme(scope) == "https"

    def base(self, scope: Scope) -> str:
        """How people reach this server, for links: the public address, else as the request did."""
        if self._public_url:
            return self._public_url
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1") if hosts else "{}:{}".format(*scope["server"])
        return f"{self._scheme(scope)}://{host}"

    def check(self, scope: Scope) -> None:
        """Raise Forbidden for a write that a page of another site may have made.

        Browsers say where a write comes from. One that says nothing comes from a program, which
        sends no cookie unless its owner wants it to.
        """
        if scope["method"] in SAFE_METHODS:
            return
        said: dict[bytes, list[str]] = {name: [] for name in _LOOKED_AT}
        for name, value in scope["headers"]:
            if name in said:
                said[name].append(value.decode("latin-1").strip())
        if not self._allowed(scope, said):
            raise Forbidden("A write with a cookie must come from a page of this server.")

    def _allowed(self, scope: Scope, said: dict[bytes, list[str]]) -> bool:
        sites, origins = said[b"sec-fetch-site"], said[b"origin"]
        same_site = all(site in ("same-origin", "none") for site in sites)
        if origins:
            origin = _origin(origins[0])
            if len(origins) > 1 or origin is None:
                return False
            return origin in self._trusted or (same_site and origin in self._own(scope, said))
        if sites:
            return same_site and bool(self._own(scope, said))
        return not said[b"referer"] and not any("Mozilla/" in one for one in said[b"user-agent"])

    def _own(self, scope: Scope, said: dict[bytes, list[str]]) -> set[Origin | None]:
        """The origins that the request's own Host stands for; none for a Host that is not ours.

        A page that came by TLS is trusted although a proxy that nobody told us of has ended it.
        """
        hosts = said[b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return set()
        schemes = {"https", self._scheme(scope)}
        return {_origin(f"{scheme}://{hosts[0]}") for scheme in schemes} - {None}

    def _is_ours(self, host: str) -> bool:
        """With a public address only that is, and what no name server can point to us: literal
        addresses and localhost."""
        if self._public is None:
            return True
        found = _origin(f"http://{host}")
        if found is None:
            return False
        name = found[1]
        return name in (self._public[1], "localhost") or _is_address(name)

    def _scheme(self, scope: Scope) -> str:
        """By which scheme the client came, as far as a trusted proxy says."""
        client = scope.get("client")
        if client and self._addresses.trusts(client[0]):
            told = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-proto")
            if told.decode("latin-1").rpartition(",")[2].strip().lower() == "https":
                return "https"
        return "http"


def _origin(text: str) -> Origin | None:
    """Scheme, host and port; None for what is no origin, `null` included."""
    try:
        parts = urlsplit(text)
        return _parts(parts)
    except ValueError:
        return None


def _parts(parts: SplitResult) -> Origin | None:
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.lower(), parts.port or _PORTS[parts.scheme]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
