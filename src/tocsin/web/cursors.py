"""Opaque positions in lists: authenticated, and good only for the list they were made for."""

import base64
import binascii
import hashlib
import hmac

from tocsin.domain.errors import Invalid

_MAC_BYTES = 12
_TEXT_MAX = 256


class Cursors:
    """Makes and reads cursors; `key` must outlive a restart, or every open list breaks there."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key, person=b"tocsin cursors").digest()

    def make(self, position: str | None, *, list: str, organization: str) -> str | None:
        """The text that continues this list of this organization; None at the end."""
        if position is None:
            return None
        raw = position.encode()
        return _text(self._mac(raw, list, organization) + raw)

    def read(self, text: str, *, list: str, organization: str) -> str:
        """The position; Invalid naming `cursor` for one that was not made for this list."""
        refused = Invalid("cursor", "is not a cursor of this list")
        if not 0 < len(text) <= _TEXT_MAX or not text.isascii():
            raise refused
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise refused from None
        mac, position = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(position, list, organization)):
            raise refused
        if text != _text(raw):  # base64 has several spellings of the same bytes
            raise refused
        return position.decode()

    def _mac(self, position: bytes, list: str, organization: str) -> bytes:
        bound = f"{list}\0{organization}\0".encode() + position
        return hashlib.blake2b(bound, key=self._key, digest_size=_MAC_BYTES).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
