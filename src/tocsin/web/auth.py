"""Who is calling, by the credential that the dialect looks for, and how often they may."""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from tocsin.domain.errors import (
    Forbidden,
    InvalidToken,
    RateLimited,
    Unauthenticated,
)
from tocsin.domain.permissions import Caller
from tocsin.limits import UNLIMITED, Budget, TokenBuckets
from tocsin.service.sight import Sight
from tocsin.web.address import Addresses, bucket_of
from tocsin.web.dialects import Dialect
from tocsin.web.replies import Scope
from tocsin.web.services import Services

COOKIES = {Dialect.HOOKSTREAM: "better-auth.session_token"}
TOKEN_CHARS_MAX = 512

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Credential(NamedTuple):
    """A token as it came; `by_cookie` ones are sent by browsers without being asked."""

    token: str
    by_cookie: bool = False


class Gate:
    """Lets callers in: finds the credential, checks it, counts the request."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._credentials = services.credentials
        self._directory = services.directory
        self.addresses = Addresses(settings.trusted_proxies)
        self._trusted_origins = frozenset(settings.trusted_origins)
        monotonic = services.clock.monotonic
        self._callers = TokenBuckets(settings.requests_per_minute, monotonic)
        self._strangers = TokenBuckets(settings.stranger_requests_per_minute, monotonic)

    async def admit(self, scope: Scope, dialect: Dialect) -> Caller:
        """The caller of a counted request.

        Raises Unauthenticated, or RateLimited once the organization (a stranger: the address)
        has used its budget; `tocsin.budget` in the scope says what is left of it.
        """
        try:
            caller = await self.identify(scope, dialect)
        except Unauthenticated:
            address = bucket_of(self.address(scope))
            self._count(scope, self._strangers.take(address))
            raise
        if caller.organization_id is None:
            scope["tocsin.budget"] = UNLIMITED
        else:
            self._count(scope, self._callers.take(caller.organization_id))
        return caller

    async def identify(self, scope: Scope, dialect: Dialect) -> Caller:
        """The caller, without counting; raises Unauthenticated or one of its kinds."""
        address = self.address(scope)
        refused: Unauthenticated | None = None
        for credential in credentials_of(scope, dialect):
            token = credential.token
            if not 0 < len(token) <= TOKEN_CHARS_MAX:
                refused = refused or InvalidToken()
                continue
            try:
                caller = self._credentials.cached(token, dialect=dialect, address=address)
                if caller is None:
                    caller = await self._credentials.authenticate(
                        token, dialect=dialect, address=address
                    )
            except Unauthenticated as error:
                refused = refused or error
                continue
            if credential.by_cookie:
                self._check_origin(scope)
            return caller
        raise refused or Unauthenticated()

    def budget(self, scope: Scope) -> Budget:
        """What the request left of its budget; for one that was not counted, the address's."""
        budget: Budget | None = scope.get("tocsin.budget")
        return budget or self._strangers.look(bucket_of(self.address(scope)))

    def address(self, scope: Scope) -> str | None:
        """Where the request comes from."""
        client = scope.get("client")
        return self.addresses.of(client[0] if client else None, scope["headers"])

    async def sight(
        self, caller: Caller, organization: str | None, project: str | None = None
    ) -> Sight:
        """What the call may see; without asking the store where the path says what the key says."""
        own = caller.organization_id
        if project is None and own is not None and organization == own:
            return Sight(own, caller.project_id)
        return await self._directory.sight(caller, organization, project)

    def _count(self, scope: Scope, budget: Budget) -> None:
        scope["tocsin.budget"] = budget
        if not budget.allowed:
            raise RateLimited(retry_after_seconds=budget.retry_after_seconds)

    def _check_origin(self, scope: Scope) -> None:
        """A page elsewhere may make a browser write with its cookie: refuse that."""
        if scope["method"] in _SAFE_METHODS:
            return
        headers = dict(scope["headers"])
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        own = not origin or origin in self._trusted_origins or _netloc(origin) == host
        if not own or (site == "cross-site" and origin not in self._trusted_origins):
            raise Forbidden("A write with a cookie must come from this origin.")


def credentials_of(scope: Scope, dialect: Dialect) -> Iterator[Credential]:
    """The credentials of a request that count in its dialect, first choice first."""
    authorization = api_key = None
    for name, value in scope["headers"]:
        if name == b"authorization" and authorization is None:
            authorization = value.strip()
        elif name == b"x-api-key" and api_key is None:
            api_key = value.strip()
    match dialect:
        case Dialect.NATIVE:
            # One credential per call: a second is not tried in place of a wrong first.
            if authorization:
                yield Credential(_bearer(authorization))
            elif api_key:
                yield Credential(api_key.decode("latin-1"))
        case Dialect.APPLIVERY:
            if authorization:
                yield Credential(_bearer(authorization))
        case Dialect.HOOKSTREAM:
            if api_key:
                yield Credential(api_key.decode("latin-1"))
            if authorization:
                yield Credential(_bearer(authorization))
            if (cookie := _cookie(scope, COOKIES[dialect])) is not None:
                yield Credential(cookie, by_cookie=True)


def _bearer(value: bytes) -> str:
    """The token; what is no bearer credential reads as a token that nobody has."""
    scheme, _, token = value.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _cookie(scope: Scope, wanted: str) -> str | None:
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == wanted and text:
                    token: str = text.strip('"')
                    return token
    return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
