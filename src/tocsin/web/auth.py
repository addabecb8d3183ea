"""Who is calling, by the credential that the dialect looks for, and how often they may."""

from collections.abc import Iterator

from tocsin.domain.errors import InvalidToken, RateLimited, Unauthenticated
from tocsin.domain.people import NOWHERE, Visitor
from tocsin.domain.permissions import Caller
from tocsin.limits import UNLIMITED, Budget, TokenBuckets
from tocsin.service.sight import Sight
from tocsin.web import cookies
from tocsin.web.address import Addresses, bucket_of
from tocsin.web.dialects import Dialect
from tocsin.web.origins import Origins
from tocsin.web.replies import Pairs, Scope
from tocsin.web.services import Services

TOKEN_CHARS_MAX = 512


class Gate:
    """Lets callers in: finds the credential, checks it, counts the request."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._credentials = services.credentials
        self._sessions = services.sessions
        self._directory = services.directory
        self.addresses = Addresses(settings.trusted_proxies)
        self.origins = Origins(settings, self.addresses)
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
            self._count(scope, self._callers.take(_budget_of(caller)))
        return caller

    def admit_stranger(self, scope: Scope, dialect: Dialect) -> Caller:
        """The caller of a call that is there for people who are still to come in.

        Raises RateLimited once the address has used its budget, and Forbidden for a write that
        a page of another site has made: it would sign people in as somebody else.
        """
        address = self.address(scope)
        self._count(scope, self._strangers.take(bucket_of(address)))
        self.origins.check(scope)
        return Caller(
            kind="stranger", organization_id=NOWHERE, dialect=dialect.value, address=address
        )

    async def identify(self, scope: Scope, dialect: Dialect) -> Caller:
        """The caller, without counting; raises Unauthenticated or one of its kinds."""
        address = self.address(scope)
        refused: Unauthenticated | None = None
        for token in tokens_of(scope, dialect):
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
            return caller
        if refused is None or dialect is Dialect.HOOKSTREAM:
            try:
                person = await self.person(scope, dialect)
            except Unauthenticated as error:
                raise refused or error from None
            if person is not None:
                # Browsers send a cookie without being asked to; whoever sends a key means it.
                self.origins.check(scope)
                return person
        raise refused or Unauthenticated()

    def at_hand(self, authorization: bytes, headers: Pairs, peer: str | None) -> Caller | None:
        """The caller of a native call with this credential, if it needs no looking up."""
        token = _bearer(authorization.strip())
        if not 0 < len(token) <= TOKEN_CHARS_MAX:
            return None
        address = self.addresses.of(peer, headers)
        return self._credentials.cached(token, dialect=Dialect.NATIVE, address=address)

    async def person(self, scope: Scope, dialect: Dialect) -> Caller | None:
        """Whose session the cookie holds, without any check of where the request comes from.

        None without a cookie; raises InvalidToken or ExpiredToken for one that holds none.
        """
        address = self.address(scope)
        refused: Unauthenticated | None = None
        for token in cookies.tokens_of(scope):
            try:
                caller = self._sessions.cached(token, dialect=dialect, address=address)
                return caller or await self._sessions.authenticate(
                    token, dialect=dialect, address=address
                )
            except Unauthenticated as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return None

    def visitor(self, scope: Scope) -> Visitor:
        """Where a person comes from."""
        agents = [value for name, value in scope["headers"] if name == b"user-agent"]
        address = self.address(scope)
        return Visitor(
            address=address,
            bucket=bucket_of(address),
            user_agent=agents[0].decode("latin-1") if agents else "",
        )

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


def _budget_of(caller: Caller) -> str:
    """Whose budget a request counts against; who is in no organization has one of their own."""
    if caller.organization_id == NOWHERE:
        return f"user {caller.id}"
    return caller.organization_id or ""


def tokens_of(scope: Scope, dialect: Dialect) -> Iterator[str]:
    """The tokens in the headers of a request that count in its dialect, first choice first."""
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
                yield _bearer(authorization)
            elif api_key:
                yield api_key.decode("latin-1")
        case Dialect.APPLIVERY:
            if authorization:
                yield _bearer(authorization)
        case Dialect.HOOKSTREAM:
            if api_key:
                yield api_key.decode("latin-1")
            if authorization:
                yield _bearer(authorization)


def _bearer(value: bytes) -> str:
    """The token; what is no bearer credential reads as a token that nobody has."""
    scheme, _, token = value.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
