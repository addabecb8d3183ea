"""Alert rules: create, read, change, delete. How they are evaluated is in evaluating.py, what they
may say in `domain.alerts`."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tocsin.domain.alerts import (
    CHANNELS_MAX,
    COOLDOWN_MINUTES_DEFAULT,
    COOLDOWN_MINUTES_MAX,
    MINUTE_MS,
    AlertRule,
    Trigger,
    config_of,
    rule_type_of,
)
from tocsin.domain.errors import Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import ChannelId, ProjectId
from tocsin.domain.permissions import Caller
from tocsin.domain.text import check_short
from tocsin.service.changes import Changes, Made, Target, difference, listing, permit
from tocsin.service.directory import Directory
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import Connection, alert_rules, channels, projects

RULES_MAX = 200
HISTORY_MAX = 50
NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 1_024

_SAID = (
    *("name", "description", "rule_config", "source_id", "destination_id", "channel_ids"),
    *("cooldown_minutes", "enabled"),
)


class AlertRulePatch(Struct, kw_only=True):
    """What a change may say; `UNSET` leaves a member as it is. `rule_config` and `channel_ids` are
    replaced as a whole, `rule_type` can only be what it is."""

    rule_type: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    rule_config: Mapping[str, Any] | UnsetType = UNSET
    source_id: str | UnsetType | None = UNSET
    destination_id: str | UnsetType | None = UNSET
    channel_ids: Sequence[str] | UnsetType = UNSET
    cooldown_minutes: int | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class AlertRules:
    """The alert rules of one organization."""

    def __init__(
        self, *, changes: Changes, directory: Directory, rules_max: int = RULES_MAX
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._directory = directory
        self._rules_max = rules_max

    async def list(
        self, caller: Caller, sight: Sight, page: Page, *, project_id: ProjectId | None = None
    ) -> Listing[AlertRule]:
        """Newest first: those of a project, or all in sight."""
        permit(caller, "alert_rule.list")
        return listing(
            await self._store.read(
                lambda c: alert_rules.walk(
                    c, sight, project_id=project_id, limit=page.limit, below=page.below
                )
            )
        )

    async def get(
        self, caller: Caller, sight: Sight, rule_id: str, *, operation: str = "alert_rule.get"
    ) -> AlertRule:
        """A rule in sight; raises NotFound, then Forbidden."""
        wanted = _id(rule_id)
        found = await self._store.read(lambda c: alert_rules.get(c, sight, wanted))
        permit(caller, operation)
        return found

    async def history(
        self, caller: Caller, sight: Sight, rule_id: str
    ) -> tuple[AlertRule, builtins.list[Trigger]]:
        """A rule with the last times that it triggered, newest first."""
        wanted = _id(rule_id)

        def read(connection: Connection) -> tuple[AlertRule, builtins.list[Trigger]]:
            rule = alert_rules.get(connection, sight, wanted)
            return rule, alert_rules.history(connection, sight, rule.id, limit=HISTORY_MAX)

        found = await self._store.read(read)
        permit(caller, "alert_rule.get")
        return found

    async def sight_of(self, caller: Caller, rule_id: str) -> Sight:
        """What a call may see that names nothing but this rule; raises NotFound."""
        wanted = _id(rule_id)
        return await self._directory.sight_by_id(
            caller, lambda c: alert_rules.organization_of(c, wanted)
        )

    async def create(
        self,
        caller: Caller,
        sight: Sight,
        *,
        project_id: ProjectId,
        rule_type: str,
        draft: AlertRulePatch,
    ) -> AlertRule:
        """Make a rule of a project; raises Invalid naming the member, QuotaExceeded at the limit.

        It watches from now on: what opened before is not told.
        """
        permit(caller, "alert_rule.create")
        now_ms = self._changes.clock.wall_ms()
        blank = AlertRule(
            id=self._changes.new_id(),
            organization_id=sight.organization_id,
            project_id=project_id,
            name="",
            description=None,
            rule_type=rule_type_of(rule_type),
            rule_config="",
            source_id=None,
            destination_id=None,
            channel_ids=(),
            cooldown_minutes=COOLDOWN_MINUTES_DEFAULT,
            enabled=True,
            version=1,
            evaluated_minute=now_ms // MINUTE_MS,
            created_at=now_ms,
            updated_at=now_ms,
        )
        named = draft.name
        config = draft.rule_config
        whole = replace(
            draft,
            name="" if named is UNSET else named,
            rule_config={} if config is UNSET else config,
        )
        rule = _changed(blank, whole)

        def store(connection: Connection) -> Made[AlertRule]:
            if alert_rules.count(connection, sight) >= self._rules_max:
                raise QuotaExceeded(f"An organization has at most {self._rules_max} alert rules.")
            if not projects.find(connection, sight, id=project_id):
                raise Invalid("project", "is unknown")
            _check_places(connection, sight, rule, draft)
            alert_rules.create(connection, sight, rule)
            return Made(rule, {"name": rule.name, "rule_type": rule.rule_type})

        target = Target("alert_rule", rule.id)
        return await self._changes.make(
            caller, sight, "alert_rule.create", target, store, touch=False
        )

    async def update(
        self, caller: Caller, sight: Sight, rule_id: str, patch: AlertRulePatch
    ) -> AlertRule:
        """Change what `patch` names; one that changes nothing has no effect at all.

        A rule that is disabled forgets that it fires; one that is enabled watches from then on.
        """
        wanted = (await self.get(caller, sight, rule_id, operation="alert_rule.update")).id
        now_ms = self._changes.clock.wall_ms()

        def store(connection: Connection) -> Made[AlertRule]:
            before = alert_rules.get(connection, sight, wanted, lock=True)
            after = _changed(before, patch)
            if after == before:
                return Made(before)
            _check_places(connection, sight, after, patch)
            if after.enabled and not before.enabled:
                # What it watches may be gone: that is why it is off.
                _check_source(connection, Sight(sight.organization_id), after)
                _check_destination(connection, Sight(sight.organization_id), after)
                after = replace(after, evaluated_minute=now_ms // MINUTE_MS)
            if not after.enabled:
                after = replace(after, firing_since=None, last_true_at=None)
            after = replace(
                after, version=before.version + 1, updated_at=max(now_ms, before.updated_at)
            )
            alert_rules.replace(connection, sight, after)
            return Made(after, difference(before, after, _SAID))

        target = Target("alert_rule", wanted)
        return await self._changes.make(
            caller, sight, "alert_rule.update", target, store, touch=False
        )

    async def delete(self, caller: Caller, sight: Sight, rule_id: str) -> None:
        """Remove a rule; nothing more is told by it."""
        found = await self.get(caller, sight, rule_id, operation="alert_rule.delete")

        def store(connection: Connection) -> Made[None]:
            alert_rules.delete(connection, sight, found.id)
            return Made(None, {"name": found.name, "rule_type": found.rule_type})

        target = Target("alert_rule", found.id)
        await self._changes.make(caller, sight, "alert_rule.delete", target, store, touch=False)


def _id(text: str) -> str:
    wanted = normalize_id(text)
    if wanted is None:
        raise NotFound
    return wanted


def _changed(rule: AlertRule, patch: AlertRulePatch) -> AlertRule:
    """The rule with the members of a change; raises Invalid. Whether what they name is there is
    for `_check_places`."""
    new: dict[str, Any] = {}
    if patch.rule_type not in (UNSET, rule.rule_type):
        raise Invalid("rule_type", "can't be changed")
    if patch.name is not UNSET:
        check_short(patch.name, "name", NAME_CHARS_MAX)
        new["name"] = patch.name
    if patch.description is not UNSET:
        if patch.description is not None:
            check_short(patch.description, "description", DESCRIPTION_CHARS_MAX, chars_min=0)
        new["description"] = patch.description
    if patch.rule_config is not UNSET:
        config_of(rule_type_of(rule.rule_type), patch.rule_config)
        new["rule_config"] = msgspec.json.encode(patch.rule_config).decode()
    for name in ("source_id", "destination_id"):
        given = getattr(patch, name)
        if given is not UNSET:
            new[name] = None if given is None else _known_id(given, name)
    if patch.channel_ids is not UNSET:
        if len(patch.channel_ids) > CHANNELS_MAX:
            raise Invalid("channel_ids", f"must be at most {CHANNELS_MAX} channels")
        ids = [_known_id(id, f"channel_ids[{at}]") for at, id in enumerate(patch.channel_ids)]
        new["channel_ids"] = tuple(dict.fromkeys(ids))
    if patch.cooldown_minutes is not UNSET:
        minutes = patch.cooldown_minutes
        if isinstance(minutes, bool) or not 0 <= minutes <= COOLDOWN_MINUTES_MAX:
            raise Invalid("cooldown_minutes", f"must be from 0 to {COOLDOWN_MINUTES_MAX}")
        new["cooldown_minutes"] = minutes
    if patch.enabled is not UNSET:
        new["enabled"] = patch.enabled
    return replace(rule, **new)


def _known_id(text: str, field: str) -> str:
    found = normalize_id(text)
    if found is None:
        raise Invalid(field, "is unknown")
    return found


def _check_places(
    connection: Connection, sight: Sight, rule: AlertRule, patch: AlertRulePatch
) -> None:
    """Raise Invalid for what the change names that is not there, or out of the caller's sight."""
    if patch.source_id is not UNSET:
        _check_source(connection, sight, rule)
    if patch.destination_id is not UNSET:
        _check_destination(connection, sight, rule)
    if patch.channel_ids is UNSET:
        return
    living = alert_rules.living_channels(connection, rule.organization_id, rule.channel_ids)
    for at, given in enumerate(patch.channel_ids):
        if living.get(ChannelId(given.lower()), "") != rule.project_id:
            raise Invalid(f"channel_ids[{at}]", "is unknown")


def _check_source(connection: Connection, sight: Sight, rule: AlertRule) -> None:
    id = rule.source_id
    if id is not None and not projects.find(connection, sight, id=id):
        raise Invalid("source_id", "is unknown")


def _check_destination(connection: Connection, sight: Sight, rule: AlertRule) -> None:
    if rule.destination_id is None:
        return
    try:
        channels.get(connection, sight, rule.destination_id, level=channels.PROJECTS)
    except NotFound:
        raise Invalid("destination_id", "is unknown") from None
