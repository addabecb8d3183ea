"""`/healthz` and `/readyz`: whether the process lives, and whether it can work."""

from tocsin.domain.errors import MethodNotAllowed
from tocsin.web.replies import Scope, Send, send_reply
from tocsin.web.services import Health

PATHS = ("/healthz", "/readyz")


async def tell(health: Health, scope: Scope, send: Send) -> None:
    """Answer one request for one of `PATHS`; raises what it is refused with."""
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(("GET", "HEAD"))
    if scope["path"] == "/healthz":
        await send_reply(send, 200, b'{"status":"ok"}')
    elif health.ready():
        await send_reply(send, 200, b'{"status":"ready"}')
    else:
        retry = [(b"retry-after", b"1")]
        await send_reply(send, 503, b'{"status":"not ready"}', headers=retry)
