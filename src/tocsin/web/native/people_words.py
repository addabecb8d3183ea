"""People in words: the calls that sign in, and those about members and users."""

from typing import Any

from tocsin.web.native import samples
from tocsin.web.reference.words import CallWords

_AUTH = "/api/v1/auth"
_MEMBERS = "/api/v1/organizations/{org}/members"
_USERS = "/api/v1/users"

_PASSWORD = "correct horse battery"  # noqa: S105 - an example

FIELDS: dict[str, dict[str, str]] = {
    "SignInIn": {
        "email": "The address of the account, in any case.",
        "password": "Its password.",
        "organization": "Id or slug of the one to begin with; your first one, if left out.",
    },
    "SessionChangeIn": {
        "organization": "Id or slug of an organization of yours; it brings a new cookie.",
        "project": "Id or slug of the project that calls are about which name none; null for none.",
    },
    "PasswordIn": {
        "current_password": "The present password.",
        "new_password": "The new one, 10 to 256 characters.",
    },
    "LinkIn": {
        "password": "A new password, 10 to 256 characters; that of the account, where the link "
        "`asks` for the `password`.",
        "name": "What you are called; made from the address, if left out.",
        "email": "For the first account of a server: the address to sign in with.",
        "organization": "For the first account of a server: slug or id of an organization there "
        "is, or the name of a new one.",
    },
    "PersonOut": {"email": "The address of the account."},
    "MembershipOut": {"role": "Your role in it."},
    "SessionOut": {
        "user": "Who you are.",
        "organization": "What the session is about; null for nobody's.",
        "project": "The project that calls are about which name none.",
        "organizations": "All that you are in.",
        "ends_at": "When it ends, if it is not used: 30 days after its last use.",
        "expires_at": "When it ends in any case: 90 days after it began.",
    },
    "DeviceOut": {
        "current": "Whether it is the one that asks.",
        "address": "From where it was begun.",
        "user_agent": "What the program called itself.",
        "last_used_at": "When it was used last, to about an hour.",
        "ends_at": "When it ends, if it is not used.",
    },
    "MemberOut": {
        "user_id": "The account.",
        "email": "Its address.",
        "role": "`admin`, `developer` or `viewer`.",
    },
    "InvitationIn": {
        "email": "Who is invited.",
        "role": "`admin`, `developer` or `viewer`; not more than you may do yourself.",
    },
    "MemberChangeIn": {"role": "`admin`, `developer` or `viewer`."},
    "UserIn": {
        "email": "The address to sign in with.",
        "name": "What people are called; made from the address, if left out.",
        "organization": "Id or slug of an organization to be a member of; goes with `role`.",
        "role": "`admin`, `developer` or `viewer`; goes with `organization`.",
    },
    "UserOut": {
        "email": "The address to sign in with.",
        "has_password": "Whether one was chosen: without it nobody signs in.",
    },
    "UserMadeOut": {
        "email": "The address to sign in with.",
        "has_password": "Whether one was chosen: without it nobody signs in.",
        "link": "By which its owner chooses a password.",
    },
    "LinkOut": {
        "kind": "`invite` or `reset`.",
        "email": "For whom it is.",
        "role": "As what they are invited.",
        "url": "The link; only in this reply.",
        "expires_at": "When it ends, if nobody uses it.",
    },
    "LinkShownOut": {
        "kind": "`first`, `invite` or `reset`.",
        "email": "For whom it is; null where an address is still to be chosen.",
        "organization": "The name of the organization that they join.",
        "role": "As what.",
        "asks": "`new_password` where one is chosen; `password` where that of the account must be "
        "given.",
        "expires_at": "When it ends, if nobody uses it.",
    },
}


def _call(resource: str, summary: str, **more: Any) -> CallWords:
    return CallWords(resource=resource, summary=summary, **more)


CALLS: dict[str, CallWords] = {
    f"POST {_AUTH}/sign-in": _call(
        "Sign-in",
        "Sign in",
        text="The answer is the same whether there is no such account or its password is another. "
        "After 10 failures in 15 minutes an account refuses strangers for a while.",
        request={"email": "ann@example.com", "password": _PASSWORD},
        reply=samples.SESSION,
    ),
    f"POST {_AUTH}/sign-out": _call("Sign-in", "Sign out"),
    f"GET {_AUTH}/session": _call("Sign-in", "Read the session", reply=samples.SESSION),
    f"PATCH {_AUTH}/session": _call(
        "Sign-in",
        "Switch organization or project",
        request={"organization": "acme"},
        reply=samples.SESSION,
    ),
    f"GET {_AUTH}/sessions": _call(
        "Sign-in", "List your sessions", reply=samples.listed(samples.DEVICE)
    ),
    f"DELETE {_AUTH}/sessions/{{id}}": _call("Sign-in", "End a session"),
    f"POST {_AUTH}/password": _call(
        "Sign-in",
        "Change your password",
        request={"current_password": _PASSWORD, "new_password": "staple " + _PASSWORD},
    ),
    f"GET {_AUTH}/links/{{token}}": _call("Sign-in", "Look at a link", reply=samples.LINK_SHOWN),
    f"POST {_AUTH}/links/{{token}}": _call(
        "Sign-in",
        "Use a link",
        request={"password": _PASSWORD, "name": "Ann"},
        reply=samples.SESSION,
    ),
    f"POST {_MEMBERS}": _call(
        "Members",
        "Invite a member",
        request={"email": "bob@example.com", "role": "developer"},
        reply=samples.LINK,
    ),
    f"GET {_MEMBERS}": _call("Members", "List members", reply=samples.listed(samples.MEMBER)),
    f"PATCH {_MEMBERS}/{{id}}": _call(
        "Members",
        "Change a role",
        text="Nobody gives a role that may do more than themselves, and somebody stays admin.",
        request={"role": "viewer"},
        reply=samples.MEMBER | {"role": "viewer"},
    ),
    f"DELETE {_MEMBERS}/{{id}}": _call("Members", "Remove a member"),
    f"POST {_USERS}": _call(
        "Users",
        "Create a user",
        request={"email": "ann@example.com", "organization": "acme", "role": "admin"},
        reply=samples.USER
        | {"has_password": False, "link": samples.LINK | {"kind": "reset", "role": None}},
    ),
    f"GET {_USERS}": _call("Users", "List users", reply=samples.listed(samples.USER)),
    f"POST {_USERS}/{{id}}/reset": _call(
        "Users", "Reset a password", reply=samples.LINK | {"kind": "reset", "role": None}
    ),
    f"DELETE {_USERS}/{{id}}": _call("Users", "Delete a user"),
}

RESOURCES = {
    "Sign-in": "People come in with a password or a one-time link, and stay by a cookie.",
    "Members": "The people of an organization, and what they may do.",
    "Users": "The accounts of this server; for the operator.",
}
