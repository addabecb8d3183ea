"""What every channel type must do; the test file of a type inherits it.

    class TestPager(ChannelTypeContract):
        type = channel_types()["pager"]
        settings = {"url": "https://pager.example/x", "token": f"{CANARY}-1"}

Put `CANARY` into every secret of the example. What is particular to the type (golden requests,
replies with a meaning of their own) is tested in the same file.
"""

import copy
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest

from tocsin.channels import AnyChannelType, Sending, check_url, dump
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.ids import slug_valid
from tocsin.domain.model import (
    Channel,
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    Format,
    OrganizationId,
    Origin,
    People,
    ProjectId,
    Secrets,
)
from tocsin.domain.outcome import Delivered, Gone, Outcome, Reason, Rejected, Retry
from tocsin.domain.text import MASK

CANARY = "c4n4ry-53cr3t"
NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
HOSTILE = 'ünï "quoted" <b>&amp; \u202e日本 🎉 \0\x1b[31m \\ `code` *bold* @everyone {{x}} %s'

CHANNEL = Channel(
    id=ChannelId("4" * 24),
    organization_id=OrganizationId("1" * 24),
    project_id=ProjectId("2" * 24),
    type="",
    name="The channel",
    description=None,
    event_types=("*",),
    filter=(),
    format=None,
    schedule=("5s",),
    timeout_seconds=15,
    rate_limit=None,
    max_in_flight=None,
    ordered=False,
    breaker=None,
    enabled=True,
    disabled_reason=None,
    sealed=b"",
    version=1,
    created_at=0,
    updated_at=0,
)


def event(data: Any = None, *, type: str = "build.created", people: People | None = None) -> Event:
    return Event(
        id=EventId("3" * 24),
        organization_id=CHANNEL.organization_id,
        project_id=CHANNEL.project_id,
        type=type,
        data=msgspec.json.encode({"n": 1} if data is None else data),
        occurred_at=NOW_MS,
        created_at=NOW_MS,
        people=people,
    )


def sending(
    of: Event | None = None,
    *,
    origin: Origin = Origin.EVENT,
    format: Format | None = None,
    headers: dict[str, str] | None = None,
) -> Sending:
    return Sending(
        delivery_id=DeliveryId("5" * 24),
        attempt_number=3,
        origin=origin,
        event=of or event(),
        channel=msgspec.structs.replace(CHANNEL, format=format),
        headers=headers or {},
    )


def reply(status: int, retry_after: str | None = None, body: bytes = b"") -> Reply:
    headers = (("retry-after", retry_after),) if retry_after is not None else ()
    return Reply(status=status, headers=headers, body=body)


EVENTS = {
    "plain": event(),
    "wordy": event(
        {"message": HOSTILE, HOSTILE: HOSTILE, "url": "https://example.com/?a=1&b=2"},
        people=People(
            title=HOSTILE,
            text=HOSTILE * 20,
            severity="critical",
            link="https://example.com/7",
            fields={HOSTILE: HOSTILE},
        ),
    ),
    "no object": event([1, "two", None]),
    "empty": event({}),
    "largest": event({"text": "ü" * 131_000}, people=People(title="t" * 256, text="ü" * 4096)),
    "many": event({f"member {i}": {"deep": list(range(50))} for i in range(500)}),
}

# (Retry-After, what it means in milliseconds)
RETRY_AFTERS = (
    (None, None),
    ("120", 120_000),
    ("Tue, 14 Nov 2023 22:14:20 GMT", 60_000),
    ("Tue, 14 Nov 2023 22:12:20 GMT", 0),
    ("9999999999", 86_400_000),
    ("soon", None),
)

# The kind of outcome of every status a reply can have.
RETRIED = {408, 425, 429, *range(300, 400), *range(500, 600)}

Kind = type[Outcome]


class ChannelTypeContract:
    """Inherit, set `type` and `settings`; override a test only where the type says otherwise."""

    type: ClassVar[AnyChannelType]
    settings: ClassVar[dict[str, Any]]
    body_bytes_max: ClassVar[int] = 65_536
    """What the target accepts; the largest event must be cut to fit."""

    @pytest.fixture(autouse=True)
    def _nothing_logs_a_secret(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        with caplog.at_level(logging.DEBUG):
            yield
        assert CANARY not in caplog.text

    def parsed(self) -> Any:
        return self.type.parse_settings(self.settings)

    def expected(self, status: int) -> Kind:
        """The kind of outcome this type documents for a status; the rule unless overridden."""
        if 200 <= status < 300:
            return Delivered
        if status == 410:
            return Gone
        return Retry if status in RETRIED or not self.type.human else Rejected

    def test_it_says_what_it_is(self) -> None:
        assert slug_valid(self.type.name)
        assert self.type.title
        assert self.type.docs_url is None or self.type.docs_url.startswith("https://")
        assert self.type.available or self.type.install

    def test_the_schema_describes_every_setting(self) -> None:
        schema = self.type.schema()
        assert schema["additionalProperties"] is False
        assert msgspec.json.encode(schema)
        for name, described in schema["properties"].items():
            assert described.get("title"), name
            assert described.get("writeOnly", False) is (name in self.type.secret_fields), name

    def test_settings_read_back_as_written(self) -> None:
        stored = dump(self.parsed())
        assert self.type.parse_settings(stored) == self.parsed()
        assert self.settings.items() <= stored.items()

    def test_the_example_has_a_canary_in_every_secret(self) -> None:
        for name in self.type.secret_fields:
            assert CANARY in str(self.settings[name]), name

    def test_an_unknown_setting_is_named(self) -> None:
        self.refused({**self.settings, "no_such": 1}, "settings.no_such")

    def test_a_setting_of_the_wrong_type_is_named(self) -> None:
        for name in self.type.schema()["properties"]:
            error = self.refused({**self.settings, name: {"a": CANARY}}, None)
            assert error.problems[0].field.startswith(f"settings.{name}")

    def test_a_missing_setting_is_named(self) -> None:
        for name in self.type.schema().get("required", ()):
            rest = {k: v for k, v in self.settings.items() if k != name}
            self.refused(rest, f"settings.{name}")

    def test_control_characters_and_empty_secrets_are_refused(self) -> None:
        for name, value in self.settings.items():
            if isinstance(value, str):
                self.refused({**self.settings, name: value + "\0"}, f"settings.{name}")
        for name in self.type.secret_fields:
            self.refused({**self.settings, name: ""}, f"settings.{name}")

    def test_secrets_are_masked(self) -> None:
        masked = self.type.mask(dump(self.parsed()))
        assert CANARY not in str(masked)
        for name in self.type.secret_fields:
            assert MASK in str(masked[name])

    def test_the_masked_text_keeps_a_secret_and_nothing_else_does(self) -> None:
        stored = dump(self.parsed())
        masked = self.type.mask(stored)
        assert self.type.merge_masked(masked, stored) == {
            k: v for k, v in stored.items() if v is not None
        }
        for name in self.type.secret_fields:
            for new, before in (
                ({name: masked[name]}, {}),
                ({name: f"{masked[name]}x"}, stored),
                ({name: f"x{MASK}"}, stored),
            ):
                with pytest.raises(Invalid) as caught:
                    self.type.merge_masked(new, before)
                assert caught.value.problems[0].field == f"settings.{name}"
                assert CANARY not in str(caught.value)

    def test_settings_written_out_show_no_secret(self) -> None:
        assert CANARY not in f"{self.parsed()} {self.parsed()!r} {self.type!r}"

    @pytest.mark.parametrize("name", EVENTS)
    @pytest.mark.parametrize("origin", [Origin.EVENT, Origin.TEST, Origin.OPERATIONAL])
    def test_every_event_makes_a_clean_request(self, name: str, origin: Origin) -> None:
        if self.type.speaks_http:
            self.check_request(self.type.build(sending(EVENTS[name], origin=origin), self.parsed()))

    def check_request(self, request: Request) -> None:
        check_url(request.url)
        assert len(request.body) <= self.body_bytes_max
        request.body.decode()
        for name, value in request.headers:
            assert name == name.lower()
            assert name.isascii()
            assert not set(value) & {"\r", "\n", "\0"}
        names = [name for name, _ in request.headers]
        assert len(names) == len(set(names))
        assert "user-agent" in names

    def test_build_and_sign_are_pure(self) -> None:
        if not self.type.speaks_http:
            return
        settings, this = self.parsed(), sending(EVENTS["wordy"], headers={"X-Own": "1"})
        before = copy.deepcopy((settings, this))
        first = self.type.build(this, settings)
        assert self.type.build(this, settings) == first
        secrets = Secrets(settings=dump(settings), secret=SECRET if self.type.signs else None)
        signed = self.type.sign(first, this, secrets, NOW_MS // 1000)
        assert self.type.sign(first, this, secrets, NOW_MS // 1000) == signed
        assert signed.body == first.body
        assert signed.url == first.url
        self.check_request(signed)
        assert (settings, this) == before

    @pytest.mark.parametrize(("retry_after", "wait_ms"), RETRY_AFTERS)
    def test_every_status_has_its_outcome(
        self, retry_after: str | None, wait_ms: int | None
    ) -> None:
        settings = self.parsed()
        for status in range(200, 600):
            outcome = self.type.judge(reply(status, retry_after), settings, NOW_MS)
            assert type(outcome) is self.expected(status), status
            if isinstance(outcome, Retry):
                assert outcome.not_before_ms == wait_ms, status
                holds = wait_ms is not None and status in (429, 503)
                assert outcome.holds_channel is holds, status
            if not isinstance(outcome, Delivered):
                assert outcome.reason in Reason
                assert CANARY not in outcome.detail

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\0" * 2048, b"[" * 4096, b'{"ok":1e999}'])
    def test_no_body_breaks_the_judge(self, body: bytes) -> None:
        for status in (200, 204, 302, 400, 404, 410, 429, 500):
            self.type.judge(reply(status, body=body), self.parsed(), NOW_MS)

    @pytest.mark.parametrize("reason", list(Reason))
    def test_no_reply_is_always_another_try(self, reason: Reason) -> None:
        assert self.type.judge_failure(reason, "why") == Retry(reason, "why")

    def refused(self, raw: dict[str, Any], field: str | None) -> Invalid:
        with pytest.raises(Invalid) as caught:
            self.type.parse_settings(raw)
        if field is not None:
            assert caught.value.problems[0].field == field
        assert CANARY not in str(caught.value)
        return caught.value
