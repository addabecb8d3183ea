"""One organization, and calls in the words of each dialect."""

import re
from typing import Any

from tests.hostile.world import API, World
from tests.hostile.world import Tenant as Names
from tests.web.fakes import Answer
from tests.web.people import sign_in

from tocsin.domain.model import Role

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ID = re.compile(r"[0-9a-f]{24}")
HOOK = "http://127.0.0.9:9/hook"
MASK = "\u2022\u2022\u2022\u2022"


class Tenant:
    """Paths are below the organization's native ones, unless they begin with `/v1` or `/api`."""

    def __init__(self, world: World, names: Names) -> None:
        self.world = world
        self.names = names.names
        self.tokens = names.tokens
        self.native = f"{API}/{self.names['org']}"
        here = f"/v1/organizations/{self.names['org']}"
        self.a = f"{here}/apps/{self.names['project']}/notifications"
        self.o = f"{here}/notifications"
        self.h = "/v1/notification-channels"

    async def call(
        self, method: str, path: str, body: Any = b"", *, token: str = "admin", **headers: str
    ) -> Answer:
        path = path if path.startswith(("/v1", "/api/v1")) else self.native + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = self.tokens.get(token, token)
        return await self.world.ask(method, path, body, token=given, headers=named)

    async def get(self, path: str, *, token: str = "admin", status: int = 200) -> Any:
        answer = await self.call("GET", path, token=token)
        assert answer.status == status, answer
        assert answer.headers["content-type"] == "application/json" or status >= 400
        return answer.json()

    async def post(
        self, path: str, body: Any = b"", *, token: str = "admin", status: int = 201
    ) -> Any:
        answer = await self.call("POST", path, body, token=token)
        assert answer.status == status, answer
        return answer.json()

    async def session(self) -> str:
        """The cookie of a new admin who has selected the tenant's project."""
        project = self.names["project"]
        return await sign_in(self.world.app, self.names["org"], Role.ADMIN, project=project)

    async def channel(self, **fields: Any) -> Any:
        """A new webhook channel that sends nothing."""
        body = {"name": "n", "type": "webhook", "settings": {"url": HOOK}, "enabled": False}
        return await self.post("/channels", body | fields)


def times(shown: dict[str, Any], *names: str) -> None:
    """Take away and check what no test can foresee: times and the id."""
    for name in names:
        assert TIME.fullmatch(shown.pop(name)), name
    assert ID.fullmatch(shown.pop("id"))
