"""People: signing in, sessions, links, members and users, field by field."""

from typing import Any

from tests.hostile.native_rows import KEPT, NAME, ONE, PAGING, PERIOD
from tests.hostile.registry import Row
from tests.hostile.rules import (
    ASTRAL,
    REQUIRED,
    Cases,
    absent,
    bad,
    good,
    listed,
    null,
    optional,
    text,
    types,
    words,
)

AUTH = "/api/v1/auth"
MEMBERS = ONE + "/members"
USERS = "/api/v1/users"

EMAILS_REFUSED = (
    "",
    "x",
    "@x.example",
    "x@",
    "x@@y.example",
    "x y@z.example",
    "x@y.example\n",
    "x@y.example\r\nBcc: z@z.example",
    "x\0@y.example",
    "x@y..example",
    "x@.example",
    "x@y_z.example",
    "x@\u00fc.example",
    "<x@y.example>",
    "X <x@y.example>",
    "x@y.example,z@y.example",
    "x\u202e@y.example",
    f"{'x' * 65}@y.example",
    f"x@{'y' * 253}",
    ASTRAL,
)
EMAILS_TAKEN = (
    "x@y.example",
    "X@Y.EXAMPLE",
    "x+y.z'@y-z.example",
    "\u00fc@y.example",
    "x@localhost",
)

ADDRESSES_REFUSED = types("string") + listed(EMAILS_REFUSED, ok=False)
ADDRESSES = ADDRESSES_REFUSED + listed(EMAILS_TAKEN, ok=True)
EMAIL = ADDRESSES + REQUIRED
ROLE = words("admin", "developer", "viewer") + REQUIRED
NEW_PASSWORD = types("string") + REQUIRED
NEW_PASSWORD += good(shortest="x" * 10, longest="x" * 256, astral=ASTRAL * 256, nul="a\0" * 5)
NEW_PASSWORD += bad(empty="", short="\u00fc" * 9, long="x" * 257, long_astral=ASTRAL * 257)
UNKNOWN = bad(text="x")

ORGANIZATION = types("string") + good(id="{org}", capitals="{ORG}", slug="{slug}")
ORGANIZATION += bad(unknown="nowhere", empty="", missing="{none}", nul="a\0b", long="x" * 10_000)
PROJECT = types("string") + good(id="{project}", capitals="{PROJECT}", slug="one", none=None)
PROJECT += bad(unknown="nowhere", empty="", missing="{none}", nul="a\0b", long="x" * 10_000)

WORD_QUERY = listed(("x", "a.b", "", "{channel}", "x" * 5000, "%F0%9F%98%80"), ok=True)
WORD_QUERY += listed(("%00",), ok=False)
AUDIT: dict[str, Cases] = PAGING | PERIOD
AUDIT |= {"action": WORD_QUERY, "actor": WORD_QUERY, "target": WORD_QUERY}


def _row(method: str, path: str, success: int = 200, **more: Any) -> Row:
    return Row(dialect="native", method=method, path=path, success=success, **more)


ROWS = (
    _row("GET", ONE + "/audit", query=AUDIT),
    _row("GET", "/api/v1/audit", query=AUDIT, token="operator"),
    # Nobody has this password.
    _row("POST", AUTH + "/sign-in", 401, open=True, text_field="password",
         body={"email": "nobody@example.com", "password": "x"},
         fields={
             "email": EMAIL,
             "password": text(0, 256, controls=True) + REQUIRED,
             "organization": types("string") + optional() + good(slug="{slug}"),
             "token": UNKNOWN,
         }),
    _row("POST", AUTH + "/sign-out", 204, token="person"),
    _row("GET", AUTH + "/session", token="person"),
    _row("PATCH", AUTH + "/session", body={"project": None}, token="person",
         fields={
             "organization": ORGANIZATION + KEPT,
             "project": PROJECT + absent(ok=True),
             "role": UNKNOWN,
         }),
    _row("GET", AUTH + "/sessions", query=PAGING, token="person"),
    _row("DELETE", AUTH + "/sessions/{none}", 404, token="person"),
    # The present password is another.
    _row("POST", AUTH + "/password", 403, token="person", text_field="current_password",
         body={"current_password": "x", "new_password": "x" * 10},
         fields={
             "current_password": text(0, 256, controls=True) + REQUIRED,
             "new_password": NEW_PASSWORD,
             "email": UNKNOWN,
         }),
    _row("GET", AUTH + "/links/{token}", open=True),
    # The account that is invited has another password.
    _row("POST", AUTH + "/links/{token}", 401, open=True, body={"password": "x" * 10},
         fields={
             "password": NEW_PASSWORD,
             "name": NAME + optional(),
             "email": ADDRESSES + optional(),
             "organization": NAME + optional(),
             "role": UNKNOWN,
         }),
    _row("POST", MEMBERS, 201, body={"email": "x@example.com", "role": "viewer"},
         fields={"email": EMAIL, "role": ROLE, "user_id": UNKNOWN}),
    _row("GET", MEMBERS, query=PAGING),
    _row("PATCH", MEMBERS + "/{member}", body={"role": "viewer"},
         fields={"role": ROLE, "email": UNKNOWN}),
    _row("DELETE", MEMBERS + "/{member}", 204),
    # The address has an account.
    _row("POST", USERS, 409, token="operator", text_field="name",
         body={"email": "{email}", "organization": "{org}", "role": "viewer", "name": "n"},
         fields={
             "email": ADDRESSES_REFUSED + REQUIRED + good(capitals="{email}"),
             "name": NAME + optional(),
             "organization": ORGANIZATION + absent(ok=False) + null(ok=False),
             "role": ROLE,
             "password": UNKNOWN,
         }),
    _row("GET", USERS, query=PAGING, token="operator"),
    _row("POST", USERS + "/{user}/reset", 201, token="operator"),
    _row("DELETE", USERS + "/{user}", 204, token="operator"),
)  # fmt: skip
