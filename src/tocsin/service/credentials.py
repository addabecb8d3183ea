"""Tokens to callers, cached; exact after a revocation, because every change of key rights drops
what is cached of its organization before it is answered."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, cast

from tocsin.clock import Clock
from tocsin.crypto.tokens import check_token_form, hash_token, same
from tocsin.domain.errors import ExpiredToken, InvalidToken
from tocsin.domain.model import Key, KeyId, OrganizationId
from tocsin.domain.permissions import ALL, Caller, grants_of
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import keys
from tocsin.storage.control.keys import KeyUse

ENTRIES_MAX = 10_000
FLUSH_SECONDS = 10.0
USES_PER_WRITE_MAX = 5_000

_PLACES = token_bytes(32)


class _Entry:
    """One live token; `caller` is the last one made of it, most often the next one's too."""

    __slots__ = ("caller", "expires_at", "key_id", "last_used_at", "uses")

    def __init__(self, caller: Caller, key_id: KeyId | None, expires_at: int | None) -> None:
        self.caller = caller
        self.key_id = key_id
        self.expires_at = expires_at
        self.uses = 0
        self.last_used_at = 0


class Credentials:
    """Knows who holds a token. Keys are looked up by SHA-256; the operator's are compared in
    constant time. Uses are counted in memory and written by `flush`."""

    def __init__(
        self,
        *,
        store: ControlPlane,
        clock: Clock,
        operator_tokens: Sequence[str],
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall_ms = clock.wall_ms
        self._operator_tokens = tuple(operator_tokens)
        self._entries_max = entries_max
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._by_organization: dict[OrganizationId, set[bytes]] = {}
        self._left: dict[KeyId, KeyUse] = {}
        self._epoch = 0
        self._flushed_at = clock.monotonic()

    def cached(self, token: str, *, dialect: str, address: str | None) -> Caller | None:
        """The caller if the token is at hand and has not expired; None: `authenticate` knows."""
        place = _place(token)
        entry = self._entries.get(place)
        if entry is None:
            return None
        now_ms = self._wall_ms()
        if entry.expires_at is not None and entry.expires_at <= now_ms:
            return None
        self._entries.move_to_end(place)
        entry.uses += 1
        entry.last_used_at = now_ms
        caller = entry.caller
        if caller.dialect != dialect or caller.address != address:
            caller = entry.caller = _as(caller, dialect, address)
        return caller

    async def authenticate(self, token: str, *, dialect: str, address: str | None) -> Caller:
        """Who holds the token; raises InvalidToken or ExpiredToken."""
        known = self.cached(token, dialect=dialect, address=address)
        if known is not None:
            return known
        # All are compared, so the time taken tells nothing about which one is close.
        matches = [same(token, one) for one in self._operator_tokens]
        if any(matches):
            caller = Caller(kind="operator", grants=ALL, name="operator")
            self._keep(_place(token), _Entry(_as(caller, dialect, address), None, None))
            return _as(caller, dialect, address)
        if not check_token_form(token):
            raise InvalidToken
        token_hash = hash_token(token)
        epoch = self._epoch
        key = await self._store.read(lambda c: keys.by_token_hash(c, token_hash))
        if key is None:
            raise InvalidToken
        now_ms = self._clock.wall_ms()
        if key.expires_at is not None and key.expires_at <= now_ms:
            raise ExpiredToken
        entry = _Entry(_as(_caller(key), dialect, address), key.id, key.expires_at)
        entry.uses, entry.last_used_at = 1, now_ms
        place = _place(token)
        if epoch == self._epoch and place not in self._entries:
            self._keep(place, entry)
        else:
            # Something changed while it was read: it is good for this call, and not kept.
            self._put_by(entry)
        return entry.caller

    def forget(self, organization_id: OrganizationId) -> None:
        """Drop what is cached of an organization; to be told of every change of its keys."""
        self._epoch += 1
        for place in self._by_organization.pop(organization_id, ()):
            entry = self._entries.pop(place, None)
            if entry is not None:
                self._put_by(entry)

    async def flush(self, *, at_once: bool = False) -> None:
        """Write what was counted, in one transaction, at most every 10 s unless `at_once`.

        When the store is away the counts are kept for the next time, and the error is raised.
        """
        now = self._clock.monotonic()
        if not at_once and now - self._flushed_at < FLUSH_SECONDS:
            return
        self._flushed_at = now
        for entry in self._entries.values():
            self._put_by(entry)
        uses = [self._left[key_id] for key_id in sorted(self._left)[:USES_PER_WRITE_MAX]]
        if not uses:
            return
        for use in uses:
            del self._left[use.key_id]
        try:
            await self._store.write(lambda c: keys.count_uses(c, uses))
        except BaseException:
            for use in uses:
                self._add(use)
            raise

    def _keep(self, place: bytes, entry: _Entry) -> None:
        self._entries[place] = entry
        organization_id = entry.caller.organization_id
        if organization_id is not None:
            self._by_organization.setdefault(organization_id, set()).add(place)
        while len(self._entries) > self._entries_max:
            oldest_place, oldest = self._entries.popitem(last=False)
            self._put_by(oldest)
            owner = oldest.caller.organization_id
            if owner is not None:
                places = self._by_organization[owner]
                places.discard(oldest_place)
                if not places:
                    del self._by_organization[owner]

    def _put_by(self, entry: _Entry) -> None:
        """Move an entry's count to where the next flush finds it."""
        organization_id = entry.caller.organization_id
        if entry.uses and entry.key_id is not None and organization_id is not None:
            self._add(KeyUse(organization_id, entry.key_id, entry.last_used_at, entry.uses))
            entry.uses = 0

    def _add(self, use: KeyUse) -> None:
        before = self._left.get(use.key_id)
        if before is not None:
            use = KeyUse(
                use.organization_id,
                use.key_id,
                max(use.last_used_at, before.last_used_at),
                use.requests + before.requests,
            )
        self._left[use.key_id] = use


def _place(token: str) -> bytes:
    """Where a token is kept: its keyed digest, so that the time a look-up takes tells nothing."""
    return blake2b(token.encode(errors="surrogatepass"), digest_size=32, key=_PLACES).digest()


def _caller(key: Key) -> Caller:
    return Caller(
        kind="key",
        organization_id=key.organization_id,
        project_id=key.project_id,
        grants=grants_of(key.role, key.permissions),
        id=key.id,
        name=key.name,
    )


def _as(caller: Caller, dialect: str, address: str | None) -> Caller:
    return Caller(
        kind=caller.kind,
        organization_id=caller.organization_id,
        project_id=caller.project_id,
        grants=caller.grants,
        id=caller.id,
        name=caller.name,
        dialect=cast(Any, dialect),
        address=address,
    )
