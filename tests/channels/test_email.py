"""Mails: examples to look at, addresses that are taken and not, replies and what they mean."""

import asyncio
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.channels.contract import (
    EVENTS,
    NOW_MS,
    RETRY_AFTERS,
    ChannelTypeContract,
    Kind,
    event,
    reply,
    sending,
)
from tests.channels.test_slack import JSON, NICE, origin_of

from tocsin.channels import Transports, channel_types, equipped
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Reply
from tocsin.domain.mail import Mail, parse_address, parse_mail_server, parse_sender
from tocsin.domain.model import Event, Origin, People
from tocsin.domain.outcome import Delivered, Reason, Rejected, Retry

EMAIL = channel_types()["email"]
TO = ["ana@example.com", "ops@fjord.example"]
SETTINGS = EMAIL.parse_settings({"to": TO})
EXAMPLES = Path(__file__).parent / "email"
TOLD = (
    *("build.from_ci", "feedback.created", "certificate.will_expire", "generic", "test"),
    *("alert.triggered", "alert.resolved"),
)


class Post:
    """A transport that keeps the mails."""

    def __init__(self, answer: Reply) -> None:
        self.answer = answer
        self.mails: list[Mail] = []

    async def send(
        self,
        mail: Mail,
        *,
        organization: str,
        timeout_seconds: float,
        may_write: Callable[[], bool],
    ) -> Reply:
        assert (organization, timeout_seconds, may_write()) == ("1" * 24, 15, True)
        self.mails.append(mail)
        return self.answer


def mail_of(of: Event, origin: Origin = Origin.EVENT, to: list[str] | None = None) -> Mail:
    """The mail as its transport gets it."""
    post = Post(reply(250))
    settings = EMAIL.parse_settings({"to": to or TO})
    kind = equipped(Transports(mail=post))["email"]
    answer = asyncio.run(kind.send(sending(of, origin=origin), settings, lambda: True))
    assert answer is post.answer
    (mail,) = post.mails
    check_mail(mail)
    return mail


class _Page(HTMLParser):
    """What a page would load, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self._quiet = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "iframe", "link", "base", "form", "object", "svg")
        given = {name: value or "" for name, value in attributes}
        assert not {name for name in given if name.startswith("on") or name == "src"}
        assert "url(" not in given.get("style", "")
        if "href" in given:
            self.links.append(given["href"])
        self._quiet = tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.words.append(data)


def page(mail: Mail) -> _Page:
    found = _Page()
    found.feed(mail.html)
    found.close()
    return found


def check_mail(mail: Mail) -> None:
    """What every mail must be, whatever the event."""
    assert 0 < len(mail.subject) <= 150
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", mail.subject)
    assert mail.id == "5" * 24
    assert len(mail.text) + len(mail.html) < 60_000
    for link in page(mail).links:
        assert link.startswith(("http://", "https://"))
    (mail.subject + mail.text + mail.html).encode()


class TestEmail(ChannelTypeContract):
    type = EMAIL
    settings = {"to": TO}  # noqa: RUF012

    def expected(self, status: int) -> Kind:
        """SMTP's codes: 4 is "not now", 5 is "never", and 3 would be half a mail."""
        if 200 <= status < 300:
            return Delivered
        return Rejected if 500 <= status < 600 else Retry

    @pytest.mark.parametrize(("retry_after", "wait_ms"), RETRY_AFTERS[:1])
    def test_every_status_has_its_outcome(
        self, retry_after: str | None, wait_ms: int | None
    ) -> None:
        """SMTP has no Retry-After: the schedule alone says when."""
        for status in range(200, 600):
            outcome = self.type.judge(reply(status), SETTINGS, NOW_MS)
            assert type(outcome) is self.expected(status), status
            if not isinstance(outcome, Delivered):
                assert (outcome.reason, outcome.detail) == (Reason.SMTP_REPLY, str(status))
            if isinstance(outcome, Retry):
                assert (outcome.not_before_ms, outcome.holds_channel) == (None, False)

    @pytest.mark.parametrize("name", EVENTS)
    @pytest.mark.parametrize("origin", [Origin.EVENT, Origin.TEST, Origin.OPERATIONAL])
    def test_every_event_makes_a_clean_request(self, name: str, origin: Origin) -> None:
        assert mail_of(EVENTS[name], origin) == mail_of(EVENTS[name], origin)


@pytest.mark.parametrize("name", TOLD)
def test_a_mail_looks_like_its_example(name: str) -> None:
    mail = mail_of(NICE[name], origin_of(name))
    text = f"Subject: {mail.subject}\n\n{mail.text}"
    assert text == (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    assert mail.html == (EXAMPLES / f"{name}.html").read_text(encoding="utf-8")


def test_text_and_html_say_the_same() -> None:
    people = People(title="T <b>", text="line 1\nline <2> &amp;", fields={"a <i>": "b\"'<u>"})
    mail = mail_of(event({"url": "https://example.com/?a=1&b=2"}, people=people))
    found = page(mail)
    words = "".join(found.words)
    for said in ("T <b>", "line 1\nline <2> &amp;", "b\"'<u>", "https://example.com/?a=1&b=2"):
        assert said in mail.text
        assert said in words
    assert found.links == ["https://example.com/?a=1&b=2"]


@pytest.mark.parametrize(
    ("severity", "subject"),
    [
        ("info", "Title"),
        ("warning", "[Warning] Title"),
        ("error", "[Error] Title"),
        ("critical", "[Critical] Title"),
    ],
)
def test_a_subject_says_how_bad_it_is(severity: str, subject: str) -> None:
    assert mail_of(event(people=People(title="Title", severity=severity))).subject == subject


def test_a_subject_is_one_short_visible_line() -> None:
    evil = "a\r\nBcc: eve@example.com\0\x1b[31m \u202e\u2028" + "x" * 300
    subject = mail_of(event(people=People(title=evil))).subject
    assert subject.startswith("a Bcc: eve@example.com")
    assert subject.endswith("…")


@pytest.mark.parametrize(
    ("address", "is_"),
    [
        ("ana@example.com", "ana@example.com"),
        ("Ana.B+tag@EXAMPLE.com", "Ana.B+tag@example.com"),
        ("o'neil_x-y=z@a.b-c.example", "o'neil_x-y=z@a.b-c.example"),
        ("root@localhost", "root@localhost"),
        ("jörg@müll.example", "jörg@xn--mll-hoa.example"),
        ("用户@例子.example", "用户@xn--fsqu00a.example"),
        (f"{'x' * 64}@example.com", f"{'x' * 64}@example.com"),
    ],
)
def test_addresses_that_are_taken(address: str, is_: str) -> None:
    assert [str(one) for one in mail_of(event(), to=[address]).to] == [is_]


REFUSED = [
    *("", "ana", "ana@", "@example.com", "a@b@example.com", "a b@example.com", "ana@exa mple.com"),
    *('"a b"@example.com', '"a\\"b"@example.com', "a(c)@example.com", "Ana <ana@example.com>"),
    *("<ana@example.com>", "ana@example.com,eve@example.com", "a@b.example;c@d.example"),
    *("@relay.example:ana@example.com", "ana%example.com@relay.example", "relay!ana@example.com"),
    *("ana@[127.0.0.1]", "ana@[IPv6:::1]", "ana@127.0.0.1", "ana@-a.example", "ana@a..example"),
    *(".ana@example.com", "ana.@example.com", "a..b@example.com", "ana@example.com."),
    *("ana@example.com\r\nRCPT TO:<eve@example.com>", "ana\n@example.com", "ana@example.com\n"),
    *("ana\0@example.com", "ana@example\t.com", "ana\x7f@example.com", "ana\u200b@example.com"),
    *("ana\u202e@example.com", "ana@exam\u00adple\u3002com", "ana@fa\u00df.example"),
    *("\u24d0na@example.com", "ana@\uff45xample.com", f"{'x' * 65}@example.com", "ü" * 40 + "@a.b"),
    *(f"ana@{'x' * 64}.com", f"ana@{'x.' * 130}com", "ana@exa_mple.com", "ana@\ud800.com"),
]


@pytest.mark.parametrize("address", REFUSED, ids=ascii)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(Invalid) as caught:
        EMAIL.parse_settings({"to": ["ana@example.com", address]})
    assert re.fullmatch(r"settings\.to(\[1\])?", caught.value.problems[0].field)
    assert "eve" not in str(caught.value)


@given(st.text(max_size=80) | st.from_regex(r"[^@]{1,20}@[^@]{1,30}", fullmatch=True))
def test_an_address_that_is_taken_is_one_plain_word(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert re.fullmatch(r"[^\s<>()\[\],;:\"\\@%!\x00-\x1f\x7f]+@[a-z0-9.-]+", str(address))
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("to", [[], ["a@b.example"] * 11, "a@b.example", None, [1]])
def test_one_to_ten_recipients(to: Any) -> None:
    with pytest.raises(Invalid, match=r"settings\.to"):
        EMAIL.parse_settings({"to": to})
    many = [f"a{i}@b.example" for i in range(10)]
    assert len(mail_of(event(), to=many).to) == 10
    assert len(mail_of(event(), to=["a@b.example", "a@B.example"]).to) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "detail"),
    [
        (250, b"250", Delivered, ""),
        (250, b"1 of 2 recipients refused: 550 5.1.1", Delivered, ""),
        (421, b"421 4.3.2", Retry, "421 4.3.2: the mail system can't take it"),
        (450, b"450 4.2.2", Retry, "450 4.2.2: the mailbox takes no mail now"),
        (550, b"550 5.1.1", Rejected, "550 5.1.1: the address does not exist or is not accepted"),
        (552, b"552", Rejected, "552"),
        (554, b"554 5.7.1", Rejected, "554 5.7.1: the mail server's rules forbid it"),
        (554, b"554 5.5.0", Rejected, "554 5.5.0"),
    ],
)
def test_what_a_mail_server_says_is_explained(
    status: int, body: bytes, kind: Any, detail: str
) -> None:
    outcome = EMAIL.judge(reply(status, None, body), SETTINGS, NOW_MS)
    assert type(outcome) is kind
    if not isinstance(outcome, Delivered):
        assert (outcome.reason, outcome.detail) == (Reason.SMTP_REPLY, detail)


def test_without_a_mail_server_it_is_not_available_and_says_what_to_set() -> None:
    assert not EMAIL.available
    assert "TOCSIN_SMTP_URL" in (EMAIL.install or "")
    assert "TOCSIN_SMTP_FROM" in (EMAIL.install or "")
    answer = asyncio.run(EMAIL.send(sending(), SETTINGS, lambda: True))
    assert answer == Retry(Reason.SMTP_NOT_CONFIGURED)
    with_one = equipped(Transports(mail=Post(reply(250))))
    assert (with_one["email"].available, with_one["email"].install) == (True, None)
    assert with_one["slack"] is channel_types()["slack"]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", ("mail.example", 587, False, None, "")),
        ("SMTPS://Mail.example/", ("mail.example", 465, True, None, "")),
        ("smtp://[2001:db8::1]:25", ("2001:db8::1", 25, False, None, "")),
        ("smtp://a%40b:p%3A%2F%25w@m:2525", ("m", 2525, False, "a@b", "p:/%w")),
        ("smtp://u:%C3%BC@10.0.0.5", ("10.0.0.5", 587, False, "u", "ü")),
    ],
)
def test_mail_servers(url: str, server: tuple[Any, ...]) -> None:
    found = parse_mail_server(url)
    assert server == (
        *(found.host, found.port, found.implicit_tls),
        *(found.username, found.password),
    )
    assert found.password == "" or found.password not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        *("", "mail.example", "http://mail.example", "smtp://", "smtp://u:s3cret@", "smtp://m:0"),
        *("smtp://m:65536", "smtp://u@m", "smtp://:s3cret@m", "smtp://u:s3cret@m/x", "smtp://m?x"),
        *("smtp://u:s3cret%0A@m", "smtp://u:s3cret%ff@m", "smtp://u:s3c@ret@m", "smtp://m\n"),
        *("smtp://a b", "smtp://u:s3cret@m\r\nx"),
    ],
)
def test_mail_servers_that_are_none(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it must not say is checked
        parse_mail_server(url)
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ops@fjord.example", ""),
        ("<ops@fjord.example>", ""),
        ("Fjord, Inc. <ops@fjord.example>", "Fjord, Inc."),
        ("Jörg (Fjord) <ops@fjord.example>", "Jörg (Fjord)"),
    ],
)
def test_senders(text: str, name: str) -> None:
    sender = parse_sender(text)
    assert (str(sender.address), sender.name) == ("ops@fjord.example", name)


@pytest.mark.parametrize(
    "text", ["", "ops", "A\r\nB: c <a@b.example>", "A <a@b.example> B", "A <a@b.example", "x" * 200]
)
def test_senders_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|too long|no valid|not accepted"):
        parse_sender(text)


@given(
    data=JSON,
    title=st.none() | st.text(max_size=256),
    text=st.none() | st.text(max_size=400),
    severity=st.sampled_from((None, "info", "warning", "error", "critical")),
    fields=st.none() | st.dictionaries(st.text(max_size=90), st.text(max_size=400), max_size=12),
    origin=st.sampled_from(Origin),
)
def test_whatever_happens_it_is_a_mail(
    data: Any,
    title: str | None,
    text: str | None,
    severity: str | None,
    fields: dict[str, str] | None,
    origin: Origin,
) -> None:
    people = People(title=title, text=text, severity=severity, fields=fields)
    mail_of(event(data, people=people), origin)
