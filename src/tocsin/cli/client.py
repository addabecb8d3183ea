"""The calls that commands make, over the standard library, with errors that say what to do."""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tocsin import __version__
from tocsin.cli.errors import CommandFailed, Misused

TIMEOUT_SECONDS = 40.0
REPLY_BYTES_MAX = 64 * 1_048_576
LIST_LIMIT_MAX = 200

Json = Any


class Api:
    """One server with one credential. Every call raises `CommandFailed` for any other end."""

    def __init__(self, url: str, token: str, *, as_api_key: bool = False) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misused(f"{url} is no address of a server", "write it like http://127.0.0.1:8400")
        if not (token.isascii() and token.isprintable()):
            raise Misused("the token has characters that no token has", "copy it again, whole")
        self._secure = parts.scheme == "https"
        self._host, self._base = parts.hostname, parts.path
        try:
            self._port = parts.port
        except ValueError:
            raise Misused(f"{url} has no usable port") from None
        self._headers: dict[str, str] = {}
        if token:
            name, value = (
                ("x-api-key", token) if as_api_key else ("authorization", f"Bearer {token}")
            )
            self._headers[name] = value

    def call(
        self, method: str, path: str, body: Json = None, query: Mapping[str, Any] | None = None
    ) -> Json:
        """One call: the decoded reply, None when it is empty."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        target = self._base + path + (f"?{urlencode(given)}" if given else "")
        status, content = self._exchange(method, target, body)
        try:
            reply = json.loads(content) if content else None
        except (ValueError, RecursionError):
            reply = content
        if 200 <= status < 300 and not isinstance(reply, bytes):
            return reply
        raise self._failure(status, reply)

    def pages(
        self, path: str, query: Mapping[str, Any], *, limit: int = LIST_LIMIT_MAX
    ) -> Iterator[Json]:
        """Every page of a list, as the server sends them."""
        cursor = query.get("cursor")
        while True:
            page = self.call("GET", path, query={**query, "limit": limit, "cursor": cursor})
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _exchange(self, method: str, target: str, body: Json) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_SECONDS)
        headers = {"user-agent": f"tocsin-cli/{__version__}", "accept": "application/json"}
        content = None
        if body is not None:
            content = json.dumps(body, ensure_ascii=False).encode()
            headers["content-type"] = "application/json"
        try:
            connection.request(method, target, content, headers | self._headers)
            reply = connection.getresponse()
            return reply.status, reply.read(REPLY_BYTES_MAX)
        except UnicodeEncodeError:
            raise Misused("the text has characters that are no Unicode text") from None
        except ConnectionRefusedError:
            raise CommandFailed(
                f"no server answers at {self.url}",
                "start one with `tocsin serve`, or name another with --url or TOCSIN_URL",
            ) from None
        except TimeoutError:
            raise CommandFailed(f"{self.url} did not answer in {TIMEOUT_SECONDS:.0f} s") from None
        except ssl.SSLError as error:
            raise CommandFailed(f"no safe connection to {self.url}: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandFailed(
                f"can't reach {self.url}: {reason}", "check --url (or TOCSIN_URL)"
            ) from None
        finally:
            connection.close()

    def _failure(self, status: int, reply: Json) -> CommandFailed:
        text, code = _told(reply)
        if text is None:
            return CommandFailed(
                f"{self.url} answered {status}, and not as Tocsin does",
                "check --url (or TOCSIN_URL): it is the server's address without a path",
            )
        hint = _ADDRESS_HINT if "address is not allowed" in text else _HINTS.get(code, "")
        return CommandFailed(f"{text} ({status})", hint)


_ADDRESS_HINT = "addresses inside networks are refused but for those in TOCSIN_ALLOW_NETWORKS"
_HINTS = {
    "unauthenticated": "say --token, or set TOCSIN_TOKEN",
    "invalid_token": "check --token (or TOCSIN_TOKEN); the operator's is in the data directory",
    "expired_token": "make a new key: `tocsin keys create NAME --org ORG`",
    "forbidden": "use a key with that permission, or the operator token",
    "not_found": "list what there is: `tocsin orgs`, `tocsin channels --org ORG`, …",
    "quota": "delete what is not needed, or raise the limit (docs/configuration.md)",
    "rate_limited": "wait a moment and repeat it",
    "unavailable": "wait a moment and repeat it; `tocsin doctor` looks for the cause",
}


def _told(reply: Json) -> tuple[str | None, str]:
    """What an error reply of any of the three dialects says, and its native code."""
    if not isinstance(reply, dict):
        return None, ""
    match reply:
        case {"detail": str(detail), "code": str(code)}:
            problems = [
                f"{one['field']}: {one['message']}"
                for one in reply.get("errors") or []
                if one["field"] and one["field"] not in detail
            ]
            return "\n".join([detail or code, *problems]), code
        case {"status": False, "error": {"message": str(message)} as error}:
            problems = [
                f"{one['field']}: {one['message']}"
                for one in (error.get("data") or {}).get("errors") or []
            ]
            return "\n".join([message, *problems]), ""
        case {"error": str(message)}:
            return message, ""
    return None, ""


def at(*parts: str) -> str:
    """A native path: each part becomes one segment, whatever it contains."""
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)
