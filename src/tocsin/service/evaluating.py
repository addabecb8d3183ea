"""Evaluating alert rules: once a minute, a little after it, each rule by whoever comes first.

What a rule tells is one transaction, conditional on the version and the minute that the decision
was made on, with ids made of the rule and the minute. So any number of nodes may evaluate, at once
or paused in between: a rule tells at most once of a minute. Minutes in which nobody evaluated are
passed over; only the latest one is looked at.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from tocsin.clock import Clock
from tocsin.domain.alerts import (
    MINUTE_MS,
    RESOLVED_AFTER_MINUTES,
    AlertRule,
    Config,
    Decision,
    RuleType,
    Trigger,
    Verdict,
    config_of,
    cooling,
    decide,
    judge,
    notice_id,
    rule_type_of,
    untold,
)
from tocsin.domain.errors import Invalid, Unavailable
from tocsin.domain.model import ChannelId
from tocsin.domain.text import iso
from tocsin.service.figures import Reader, Watched
from tocsin.service.sight import Sight
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import Connection, alert_rules, alerting, outbox

LOOK_SECONDS = 3.0
GRACE_MS = 15_000
"""A minute is evaluated this long after it: by then what happened in it has been stored."""
LATE_MINUTES_MAX = 2
"""What was decided so long ago is not told any more: a later evaluation decides anew."""
RULES_PER_READ_MAX = 2_000
RULES_PER_WRITE_MAX = 2_000
JUDGED_AT_ONCE = 500
BROKEN_NOTED_MAX = 10_000

TRIGGERED = "alert.triggered"
RESOLVED = "alert.resolved"

_log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates the alert rules of all organizations."""

    def __init__(self, store: ControlPlane, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._reader = Reader(store)
        self._done = 0
        self._broken: set[str] = set()

    async def run_once(self) -> int:
        """Evaluate the last minute that is over for long enough, unless that is done; returns how
        many notices were written."""
        minute = (self._clock.wall_ms() - GRACE_MS) // MINUTE_MS
        if minute == self._done:
            return 0
        told = await self.evaluate(minute)
        self._done = minute
        return told

    async def evaluate(self, minute: int) -> int:
        """Evaluate every enabled rule at a minute; a rule that can't be is logged and left out."""
        watched = await self._watched()
        told = await self._issues(minute, [o for o in watched if o.type is RuleType.ISSUE_OPENED])
        rest = [one for one in watched if one.type is not RuleType.ISSUE_OPENED]
        first = True
        try:
            async for judged in self._reader.figures(minute, rest):
                first = False
                verdicts = []
                for at in range(0, len(judged), JUDGED_AT_ONCE):
                    some = judged[at : at + JUDGED_AT_ONCE]
                    verdicts += [(one, self._judge(one, figures)) for one, figures in some]
                    await asyncio.sleep(0)
                told += await self._conclude(minute, verdicts)
        except Unavailable as error:
            if first:
                raise
            # Those with shorter windows have been evaluated, and these will be in a minute.
            _log.warning("some alert rules are not evaluated at this minute: %s", error)
        return told

    async def _watched(self) -> list[Watched]:
        """The rules that can be evaluated."""
        found: list[Watched] = []
        above: str | None = ""
        while above is not None:
            rules = await self._store.read(
                lambda c, above=above: alerting.enabled(c, above=above, limit=RULES_PER_READ_MAX)  # type: ignore[misc]
            )
            above = rules[-1].id if len(rules) == RULES_PER_READ_MAX else None
            for rule in rules:
                one = self._read(rule)
                if one is not None:
                    found.append(one)
            await asyncio.sleep(0)
        return found

    def _read(self, rule: AlertRule) -> Watched | None:
        try:
            type, config = _config(rule.rule_type, rule.rule_config)
        except (Invalid, msgspec.DecodeError, RecursionError) as error:
            self._leave_out(rule, error)
            return None
        return Watched(rule, type, config)

    def _leave_out(self, rule: AlertRule, error: Exception) -> None:
        """Say once that a rule can't be evaluated as it is."""
        name = f"{rule.id} {rule.version}"
        if name not in self._broken:
            if len(self._broken) >= BROKEN_NOTED_MAX:
                self._broken.clear()
            self._broken.add(name)
            _log.error("alert rule %s can't be evaluated: %r", rule.id, error)

    def _judge(self, one: Watched, figures: Any) -> Verdict:
        try:
            return judge(one.type, one.config, figures)
        except Exception as error:
            # Whatever is wrong with one stops no other.
            self._leave_out(one.rule, error)
            return Verdict(None)

    async def _issues(self, minute: int, rules: Sequence[Watched]) -> int:
        # What waits for the end of a cooldown need not be read again before it.
        waiting = [one for one in rules if untold(one.rule) and cooling(one.rule, minute)]
        asked = [one for one in rules if not (untold(one.rule) and cooling(one.rule, minute))]
        verdicts = [(one, Verdict(True)) for one in waiting]
        if asked:
            now_ms = self._clock.wall_ms()
            for one, figures in await self._reader.issues(minute, asked, now_ms=now_ms):
                verdicts.append((one, self._judge(one, figures)))
        told = await self._conclude(minute, verdicts)
        quiet = [
            one.rule.id
            for one, verdict in verdicts
            if verdict.holds is False and one.rule.firing_since is None
        ]
        for at in range(0, len(quiet), RULES_PER_WRITE_MAX):
            some = quiet[at : at + RULES_PER_WRITE_MAX]
            await self._store.write(
                lambda c, some=some: alerting.advance(c, some, minute=minute)  # type: ignore[misc]
            )
        return told

    async def _conclude(self, minute: int, verdicts: Sequence[tuple[Watched, Verdict]]) -> int:
        """Note what follows; returns how many notices were written."""
        told = 0
        noted: list[AlertRule] = []
        for one, verdict in verdicts:
            now_ms = self._clock.wall_ms()
            decision = decide(one.rule, verdict.holds, minute=minute, now_ms=now_ms)
            if decision is None:
                continue
            if not decision.triggers and not decision.resolves:
                noted.append(_after(one.rule, decision))
                continue
            if now_ms >= (minute + LATE_MINUTES_MAX) * MINUTE_MS:
                continue
            told += await self._tell(minute, one.rule, decision, verdict, now_ms)
        for at in range(0, len(noted), RULES_PER_WRITE_MAX):
            some = noted[at : at + RULES_PER_WRITE_MAX]
            await self._store.write(
                lambda c, some=some: alerting.note(c, some, minute=minute)  # type: ignore[misc]
            )
        return told

    async def _tell(
        self, minute: int, rule: AlertRule, decision: Decision, verdict: Verdict, now_ms: int
    ) -> bool:
        """Store one rule's trigger, or that it is resolved, with its notice; False when somebody
        else has, or the rule has changed."""
        sight = Sight(rule.organization_id, rule.project_id)
        after = _after(rule, decision)

        def tell(connection: Connection) -> bool:
            living = alert_rules.living_channels(
                connection, rule.organization_id, set(rule.channel_ids)
            )
            channel_ids = [id for id in rule.channel_ids if id in living]
            if decision.triggers:
                type, trigger = TRIGGERED, _trigger(rule, verdict, channel_ids, minute, now_ms)
                done = alerting.conclude(connection, sight, after, minute=minute, trigger=trigger)
            else:
                type, trigger = RESOLVED, _last(connection, sight, rule)
                done = alerting.conclude(connection, sight, after, minute=minute)
            if done and channel_ids:
                resolved_at = None if decision.triggers else now_ms
                outbox.put(
                    connection,
                    sight,
                    id=notice_id(rule.id, minute, type),
                    kind=outbox.ALERT,
                    channel_id=None,
                    at=now_ms,
                    body=_body(rule, trigger, type, channel_ids, resolved_at),
                )
            return done

        try:
            return await self._store.write(tell)
        except Unavailable:
            raise
        except Exception as error:
            self._leave_out(rule, error)
            return False


@lru_cache(maxsize=20_000)
def _config(rule_type: str, text: str) -> tuple[RuleType, Config]:
    """What a row says; raises Invalid, or msgspec's error for what is not even an object."""
    type = rule_type_of(rule_type)
    return type, config_of(type, msgspec.json.decode(text, type=dict[str, Any]))


def _after(rule: AlertRule, decision: Decision) -> AlertRule:
    return replace(
        rule,
        evaluated_minute=decision.evaluated_minute,
        firing_since=decision.firing_since,
        last_true_at=decision.last_true_at,
    )


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _trigger(
    rule: AlertRule, verdict: Verdict, channel_ids: Sequence[ChannelId], minute: int, now_ms: int
) -> Trigger:
    return Trigger(
        id=notice_id(rule.id, minute, "history"),
        organization_id=rule.organization_id,
        project_id=rule.project_id,
        alert_rule_id=rule.id,
        trigger_reason=verdict.reason,
        trigger_data=_text(verdict.data),
        channels_notified=_text(channel_ids),
        created_at=now_ms,
    )


def _last(connection: Connection, sight: Sight, rule: AlertRule) -> Trigger:
    """The trigger that is resolved; retention may have taken it."""
    found = alert_rules.history(connection, sight, rule.id, limit=1)
    if found:
        return found[0]
    reason = f"The condition has been false for {RESOLVED_AFTER_MINUTES} minutes."
    return _trigger(rule, Verdict(False, reason), (), 0, 0)


def _body(
    rule: AlertRule,
    trigger: Trigger,
    type: str,
    channel_ids: Sequence[ChannelId],
    resolved_at: int | None,
) -> dict[str, Any]:
    """What the outbox publishes; its data is `domain.envelope.AlertData`."""
    data: dict[str, Any] = {
        "alert_rule": {"id": rule.id, "name": rule.name, "rule_type": rule.rule_type},
        "trigger_reason": trigger.trigger_reason,
        "trigger_data": msgspec.Raw(trigger.trigger_data.encode()),
        "source_id": rule.source_id,
        "destination_id": rule.destination_id,
    }
    if resolved_at is not None:
        data["resolved_at"] = iso(resolved_at)
    return {
        "type": type,
        "project_id": rule.project_id,
        "channel_ids": channel_ids,
        "data": data,
    }
