"""Alert rules: what an environment watches of its own deliveries, and whom it tells."""

from typing import Any, Literal

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.alerts import AlertRule, Trigger
from tocsin.domain.errors import Invalid
from tocsin.domain.ids import strip_prefix
from tocsin.domain.text import iso
from tocsin.service.alerts import AlertRulePatch
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.hookstream.listing import PAGING, cursor_of, page_of
from tocsin.web.hookstream.place import (
    ENVIRONMENT,
    ORGANIZATION,
    environment,
    named_environment,
    organization_sight,
    renamed,
)
from tocsin.web.hookstream.replies import READS, WRITES, SuccessReply

PATH = "/alert-rules"

_encode = msgspec.json.Encoder().encode


class AlertRuleIn(Struct):
    """A new rule, which is enabled; other keys are ignored."""

    name: str
    rule_type: str
    rule_config: dict[str, Any] | UnsetType = UNSET
    description: str | None = None
    source_id: str | None = None
    destination_id: str | None = None
    channel_ids: list[str] | UnsetType = UNSET
    cooldown_minutes: int | UnsetType = UNSET
    env_id: str | None = None
    org_id: str | None = None


class AlertRuleChangeIn(Struct):
    """Changes of a rule: what is left out stays, other keys are ignored."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    rule_config: dict[str, Any] | UnsetType = UNSET
    source_id: str | UnsetType | None = UNSET
    destination_id: str | UnsetType | None = UNSET
    channel_ids: list[str] | UnsetType = UNSET
    cooldown_minutes: int | UnsetType = UNSET
    enabled: bool | Literal[0, 1] | UnsetType = UNSET
    rule_type: str | UnsetType = UNSET


class AlertRuleOut(Struct):
    """A rule; `rule_config` and `channel_ids` are JSON text, `enabled` is 0 or 1."""

    id: str
    org_id: str
    env_id: str
    name: str
    description: str | None
    enabled: int
    rule_type: str
    rule_config: str
    source_id: str | None
    destination_id: str | None
    channel_ids: str
    cooldown_minutes: int
    last_triggered_at: str | None
    trigger_count: int
    created_at: str
    updated_at: str


class AlertTriggerOut(Struct):
    """One time that a rule triggered; `trigger_data` and `channels_notified` are JSON text."""

    id: str
    org_id: str
    env_id: str
    alert_rule_id: str
    trigger_reason: str
    trigger_data: str
    channels_notified: str
    created_at: str


class AlertRuleReply(Struct):
    """One rule."""

    alert_rule: AlertRuleOut


class AlertRuleHistoryReply(Struct):
    """One rule, and the last 50 times that it triggered, newest first."""

    alert_rule: AlertRuleOut
    history: list[AlertTriggerOut]


class AlertRulesReply(Struct):
    """A page of rules, newest first."""

    alert_rules: list[AlertRuleOut]
    cursor: str | None
    has_more: bool


async def existing(call: Call, operation: str) -> None:
    """Raise NotFound, then Forbidden, for the rule that a call with a body is about."""
    call.sight, id = await _place(call, call.path_params["id"])
    await call.services.alert_rules.get(call.caller, call.sight, id, operation=operation)


async def _place(call: Call, id: str) -> tuple[Sight, str]:
    """Where a call that names only a rule looks for it."""
    id = strip_prefix(id)
    return await call.services.alert_rules.sight_of(call.caller, id), id


def _shown(rule: AlertRule) -> AlertRuleOut:
    triggered = rule.last_triggered_at
    return AlertRuleOut(
        id=rule.id,
        org_id=rule.organization_id,
        env_id=rule.project_id,
        name=rule.name,
        description=rule.description,
        enabled=int(rule.enabled),
        rule_type=rule.rule_type,
        rule_config=rule.rule_config,
        source_id=rule.source_id,
        destination_id=rule.destination_id,
        channel_ids=_encode(rule.channel_ids).decode(),
        cooldown_minutes=rule.cooldown_minutes,
        last_triggered_at=None if triggered is None else iso(triggered),
        trigger_count=rule.trigger_count,
        created_at=iso(rule.created_at),
        updated_at=iso(rule.updated_at),
    )


def _told(trigger: Trigger) -> AlertTriggerOut:
    return AlertTriggerOut(
        id=trigger.id,
        org_id=trigger.organization_id,
        env_id=trigger.project_id,
        alert_rule_id=trigger.alert_rule_id,
        trigger_reason=trigger.trigger_reason,
        trigger_data=trigger.trigger_data,
        channels_notified=trigger.channels_notified,
        created_at=iso(trigger.created_at),
    )


def _plain(ids: list[str] | UnsetType) -> list[str] | UnsetType:
    """Ids without the prefixes that this dialect tolerates."""
    return UNSET if ids is UNSET else [strip_prefix(id) for id in ids]


def _id(id: str | UnsetType | None) -> str | UnsetType | None:
    return strip_prefix(id) if isinstance(id, str) else id


def _patch(data: AlertRuleIn | AlertRuleChangeIn) -> AlertRulePatch:
    """What new rules and changes say alike."""
    return AlertRulePatch(
        name=data.name,
        description=data.description,
        rule_config=data.rule_config,
        source_id=_id(data.source_id),
        destination_id=_id(data.destination_id),
        channel_ids=_plain(data.channel_ids),
        cooldown_minutes=data.cooldown_minutes,
    )


@post(
    PATH,
    opt={"operation": "alert_rule.create"},
    responses=WRITES,
    operation_class=spec.takes(ENVIRONMENT, ORGANIZATION),
)
async def create_alert_rule(request: Call, data: JSONBody[AlertRuleIn]) -> AlertRuleReply:
    """Create a rule; it watches from now on."""
    sight = await organization_sight(request, data.org_id)
    env_id = await environment(request, sight, data.env_id)
    try:
        made = await request.services.alert_rules.create(
            request.caller,
            sight,
            project_id=env_id,
            rule_type=data.rule_type,
            draft=_patch(data),
        )
    except Invalid as error:
        raise renamed(error) from None
    return AlertRuleReply(_shown(made))


@get(
    PATH,
    opt={"operation": "alert_rule.list"},
    responses=READS,
    operation_class=spec.takes(*PAGING, ENVIRONMENT, ORGANIZATION),
)
async def list_alert_rules(request: Call) -> AlertRulesReply:
    """The rules of an environment, or of all in sight."""
    sight = await organization_sight(request)
    env_id = await named_environment(request, sight)
    page = page_of(request, sight, "alert rules")
    listing = await request.services.alert_rules.list(
        request.caller, sight, page, project_id=env_id
    )
    cursor = cursor_of(request, sight, "alert rules", listing)
    return AlertRulesReply([_shown(rule) for rule in listing.items], cursor, cursor is not None)


@get(PATH + "/{id:str}", opt={"operation": "alert_rule.get"}, responses=READS)
async def get_alert_rule(request: Call, id: FromPath[str]) -> AlertRuleHistoryReply:
    """One rule with its history."""
    sight, id = await _place(request, id)
    rule, history = await request.services.alert_rules.history(request.caller, sight, id)
    return AlertRuleHistoryReply(_shown(rule), [_told(trigger) for trigger in history])


@patch(
    PATH + "/{id:str}",
    opt={"operation": "alert_rule.update", "existing": existing},
    responses=WRITES,
)
async def update_alert_rule(
    request: Call, id: FromPath[str], data: JSONBody[AlertRuleChangeIn]
) -> AlertRuleReply:
    """Change a rule; `rule_config` and `channel_ids` replace the whole of them."""
    change = msgspec.structs.replace(
        _patch(data),
        rule_type=data.rule_type,
        enabled=UNSET if data.enabled is UNSET else bool(data.enabled),
    )
    changed = await request.services.alert_rules.update(
        request.caller, request.sight, strip_prefix(id), change
    )
    return AlertRuleReply(_shown(changed))


@delete(
    PATH + "/{id:str}", opt={"operation": "alert_rule.delete"}, status_code=200, responses=READS
)
async def delete_alert_rule(request: Call, id: FromPath[str]) -> SuccessReply:
    """Delete a rule; nothing more is told by it."""
    sight, id = await _place(request, id)
    await request.services.alert_rules.delete(request.caller, sight, id)
    return SuccessReply()


HANDLERS = (
    create_alert_rule,
    list_alert_rules,
    get_alert_rule,
    update_alert_rule,
    delete_alert_rule,
)

STRUCTS = (
    AlertRuleIn,
    AlertRuleChangeIn,
    AlertRuleReply,
    AlertRuleHistoryReply,
    AlertRulesReply,
)
