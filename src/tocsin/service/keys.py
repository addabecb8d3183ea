"""Keys: bearer credentials of an organization, optionally of one project."""

from typing import Literal

from tocsin.crypto.tokens import hash_token, new_hookstream_token, new_token, token_prefix
from tocsin.domain.errors import Forbidden, Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Key, KeyId, ProjectId, Role
from tocsin.domain.permissions import GRANTS_MAX, Caller, grant_valid, grants_of, within
from tocsin.domain.text import check_short
from tocsin.service.changes import Changes, Made, Target, listing, permit
from tocsin.service.directory import NAME_CHARS_MAX, Directory
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import Connection, keys, projects

KEYS_MAX = 100
SCOPES_CHARS_MAX = 4_096


class Keys:
    """Makes, lists and revokes keys. Nobody makes one that may do more than themselves."""

    def __init__(self, *, changes: Changes, directory: Directory, keys_max: int = KEYS_MAX) -> None:
        self._changes = changes
        self._store = changes.store
        self._directory = directory
        self._keys_max = keys_max

    async def create(
        self,
        caller: Caller,
        sight: Sight,
        *,
        name: str,
        role: Role | None = None,
        permissions: "list[str] | None" = None,
        project: str | None = None,
        expires_at: int | None = None,
        style: Literal["native", "hookstream"] = "native",
        scopes: str | None = None,
        live: bool = True,
    ) -> tuple[Key, str]:
        """Make a key; the second is its token, which is kept nowhere.

        `expires_at` is in milliseconds. `scopes` (style hookstream) stands for role and
        permissions: None or `*` is a developer who may manage keys, else grants between spaces.
        """
        permit(caller, "key.create")
        check_short(name, "name", NAME_CHARS_MAX)
        now_ms = self._changes.clock.wall_ms()
        if expires_at is not None and expires_at <= now_ms:
            raise Invalid("expires_at", "must be in the future")
        if style == "hookstream":
            role, grants = _of_scopes(scopes)
        else:
            grants = _grants(permissions or [], "permissions")
        if not within(grants_of(role, grants), caller.grants):
            raise Forbidden("A key can't be given more than its maker may do.")
        project_id = await self._project_id(sight, project)
        token = (
            new_token() if style == "native" else new_hookstream_token("live" if live else "test")
        )
        key = Key(
            id=KeyId(self._changes.new_id()),
            organization_id=sight.organization_id,
            project_id=project_id,
            name=name,
            role=role,
            permissions=grants,
            scopes=scopes,
            token_prefix=token_prefix(token),
            expires_at=expires_at,
            last_used_at=None,
            request_count=0,
            created_at=now_ms,
        )

        def work(connection: Connection) -> Made[Key]:
            if keys.count(connection, sight) >= self._keys_max:
                raise QuotaExceeded(f"An organization has at most {self._keys_max} keys.")
            if project_id is not None and not projects.find(connection, sight, id=project_id):
                raise Invalid("project", "is unknown")
            keys.create(connection, sight, key, token_hash=hash_token(token))
            return Made(
                key,
                {
                    "name": name,
                    "role": role,
                    "permissions": grants,
                    "project_id": project_id,
                    "expires_at": expires_at,
                },
            )

        target = Target("key", key.id)
        return await self._changes.make(caller, sight, "key.create", target, work), token

    async def _project_id(self, sight: Sight, ref: str | None) -> ProjectId | None:
        """The project of a new key: the one named, else the one in sight."""
        if ref is None:
            return sight.project_id
        return (await self._directory.project_in(sight, ref)).id

    async def sight_of(self, caller: Caller, key_id: str) -> Sight:
        """What a call may see that names nothing but this key; raises NotFound."""
        wanted = normalize_id(key_id)
        if wanted is None:
            raise NotFound
        return await self._directory.sight_by_id(caller, lambda c: keys.organization_of(c, wanted))

    async def delete(self, caller: Caller, sight: Sight, key_id: str) -> None:
        """Revoke a key; when this returns its token is void on this node."""
        wanted = normalize_id(key_id)
        if wanted is None:
            raise NotFound
        found = await self._store.read(lambda c: keys.get(c, sight, wanted))
        permit(caller, "key.delete")
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[None]:
            keys.revoke(connection, sight, found.id, now_ms=now_ms)
            return Made(None, {"name": found.name})

        await self._changes.make(caller, sight, "key.delete", Target("key", found.id), work)

    async def list(
        self, caller: Caller, sight: Sight, page: Page, *, revoked: bool = False
    ) -> Listing[Key]:
        """The keys in sight; those that are revoked only where they are asked for, too."""
        permit(caller, "key.list")
        return listing(
            await self._store.read(
                lambda c: keys.walk(c, sight, revoked=revoked, limit=page.limit, below=page.below)
            )
        )


def _grants(texts: "list[str]", field: str) -> tuple[str, ...]:
    if len(texts) > GRANTS_MAX:
        raise Invalid(field, f"at most {GRANTS_MAX} grants")
    for index, text in enumerate(texts):
        if not grant_valid(text):
            where = f"{field}[{index}]" if field == "permissions" else field
            raise Invalid(where, "must be a dotted pattern like channel.* or *.list")
    return tuple(texts)


def _of_scopes(scopes: str | None) -> tuple[Role | None, tuple[str, ...]]:
    if scopes is None or scopes.strip() == "*":
        return Role.DEVELOPER, ("key.*",)
    check_short(scopes, "scopes", SCOPES_CHARS_MAX)
    grants = _grants(scopes.split(), "scopes")
    if not grants:
        raise Invalid("scopes", "must be *, or grants between spaces")
    return None, grants
