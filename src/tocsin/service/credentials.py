"""Tokens to callers, cached; exact after a revocation."""

from tocsin.domain.permissions import Caller


class Credentials:
    async def authenticate(self, token: str, *, dialect: str, address: str | None) -> Caller:
        raise NotImplementedError

    def cached(self, token: str, *, dialect: str, address: str | None) -> Caller | None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError
