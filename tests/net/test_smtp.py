"""Mails out: what a real mail server gets in each mode, and what every failure is called."""

import asyncio
import ssl
from collections.abc import Callable

import pytest
from cryptography import x509
from tests.net.authority import Authority
from tests.net.hostile import Peer, always, target
from tests.net.mail_server import MailServer

from tocsin.domain.exchange import Reply
from tocsin.domain.mail import Mail, parse_address, parse_mail_server, parse_sender
from tocsin.domain.outcome import Reason
from tocsin.net import NotSent, Resolver, SendFailed
from tocsin.net.smtp import CONNECTIONS_MAX, CONNECTIONS_PER_ORGANIZATION_MAX, Mailer

pytestmark = pytest.mark.anyio

NOW_MS = 1_700_000_000_000
LOGIN = ("ops@example.com", "p:/ss wörd")
LOGIN_URL = "ops%40example.com:p%3A%2Fss%20w%C3%B6rd"
LOCALHOST = x509.DNSName("localhost")
SENDER = "Tocsin, Inc. <tocsin@fjord.example>"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def mail(*to: str, **over: str) -> Mail:
    values = {
        "id": "5" * 24,
        "subject": "Build ready: Fjord ⛴ 4.2",
        "text": "Hello,\n.\n.. From here on it is\nGrüße 🎉\n" + "long " * 400 + "\n",
        "html": "<p>Grüße &amp; 🎉</p>\n.\n",
        **over,
    }
    return Mail(to=tuple(map(parse_address, to or ("ana@example.com",))), **values)


def mailer(
    server: MailServer | str, resolver: Resolver, context: ssl.SSLContext | None = None
) -> Mailer:
    url = server if isinstance(server, str) else server.url()
    return Mailer(
        parse_mail_server(url),
        parse_sender(SENDER),
        resolver,
        wall_ms=lambda: NOW_MS,
        ssl_context=context,
    )


async def give(
    sender: Mailer,
    what: Mail | None = None,
    *,
    seconds: float = 30,
    may_write: Callable[[], bool] = lambda: True,
    organization: str = "acme",
) -> Reply:
    return await sender.send(
        what or mail(), organization=organization, timeout_seconds=seconds, may_write=may_write
    )


async def failed(sender: Mailer, what: Mail | None = None, seconds: float = 30) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        await give(sender, what, seconds=seconds)
    return caught.value


async def test_what_a_mail_server_gets(resolver: Resolver) -> None:
    with MailServer() as server:
        reply = await give(mailer(server, resolver), mail("ana@example.com", "Bo@MÜLL.example"))
    assert (reply.status, reply.note) == (250, None)
    (receipt,) = server.receipts
    assert receipt.sender == "tocsin@fjord.example"
    assert receipt.to == ("ana@example.com", "Bo@xn--mll-hoa.example")
    assert receipt.content.isascii()
    assert max(map(len, receipt.content.splitlines())) <= 998
    message = receipt.message
    assert {name: str(value) for name, value in message.items()} == {
        "From": '"Tocsin, Inc." <tocsin@fjord.example>',
        "To": "ana@example.com, Bo@xn--mll-hoa.example",
        "Subject": "Build ready: Fjord ⛴ 4.2",
        "Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID": f"<{'5' * 24}@fjord.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_{"5" * 24}"',
    }
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "text/html"]
    assert receipt.part("plain") == mail().text
    assert receipt.part("html") == mail().html


async def test_every_try_of_a_delivery_is_the_same_mail(resolver: Resolver) -> None:
    with MailServer() as server:
        sender = mailer(server, resolver)
        for _ in range(2):
            await give(sender)
    assert server.sessions == 2
    first, second = server.receipts
    assert first.content == second.content


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
async def test_both_kinds_of_tls(
    authority: Authority, resolver: Resolver, implicit: bool, login: tuple[str, str] | None
) -> None:
    with MailServer(tls=authority.server(LOCALHOST), implicit=implicit, login=login) as server:
        url = server.url(LOGIN_URL if login else "")
        assert (await give(mailer(url, resolver, authority.client()))).status == 250
    (receipt,) = server.receipts
    assert receipt.secure
    assert receipt.login == (login and login[0])


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_a_certificate_is_verified(
    authority: Authority, resolver: Resolver, implicit: bool
) -> None:
    with MailServer(tls=authority.server(LOCALHOST), implicit=implicit) as server:
        error = await failed(mailer(server, resolver))
        assert error.reason is Reason.TLS_FAILED
        assert "issuer" in error.detail
        error = await failed(mailer(server.url(host="127.0.0.1"), resolver, authority.client()))
        assert error.reason is Reason.TLS_FAILED
        assert error.detail == "the certificate is for another host"
    assert server.receipts == []


async def test_no_password_goes_out_in_the_clear(resolver: Resolver) -> None:
    """A server without STARTTLS, or somebody in between who has taken the offer out."""
    with MailServer(login=None) as server:
        error = await failed(mailer(server.url("user:secret"), resolver))
        assert (error.reason, "STARTTLS" in error.detail) == (Reason.TLS_FAILED, True)
    assert server.receipts == []


async def test_a_wrong_password(authority: Authority, resolver: Resolver) -> None:
    with MailServer(tls=authority.server(LOCALHOST), login=LOGIN) as server:
        sender = mailer(server.url("ops:wrong"), resolver, authority.client())
        error = await failed(sender)
        assert (error.reason, error.detail) == (Reason.SMTP_LOGIN_FAILED, "535 5.7.8")
        error = await failed(mailer(server, resolver, authority.client()))
        assert (error.reason, error.detail) == (Reason.SMTP_LOGIN_FAILED, "530 5.7.0")


async def test_a_login_nobody_offers(authority: Authority, resolver: Resolver) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 hi\r\n")
        await peer.reader.readline()
        await peer.say(b"250-hi\r\n250 AUTH GSSAPI\r\n")
        await peer.closed()

    async with target(script, authority.server(LOCALHOST)) as t:
        url = f"smtps://user:secret@localhost:{t.port}"
        error = await failed(mailer(url, resolver, authority.client()))
        assert error.reason is Reason.SMTP_LOGIN_FAILED
        assert "secret" not in str(error)


@pytest.mark.parametrize("at", ["MAIL", "ana@example.com", "DATA"])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("451 4.3.0 try ana@example.com at 10.0.0.5 later", "451 4.3.0"),
        ("450 greylisted", "450"),
        ("550 5.1.1 no such user", "550 5.1.1"),
        ("554 5.7.1 spam", "554 5.7.1"),
        ("552 too big", "552"),
    ],
)
async def test_a_refusal_is_its_code(resolver: Resolver, at: str, answer: str, body: str) -> None:
    with MailServer(answers={at: answer}) as server:
        reply = await give(mailer(server, resolver))
    assert (reply.status, reply.body.decode(), reply.note) == (int(answer[:3]), body, None)


@pytest.mark.parametrize(
    ("answers", "status", "body"),
    [
        (["550 5.1.1 a", None, None], 250, "1 of 3 recipients refused: 550 5.1.1"),
        (["450 4.2.2 a", "550 5.1.1 b", None], 250, "2 of 3 recipients refused: 450 4.2.2"),
        (["550 5.1.1 a", "450 4.2.2 b", "550 5.1.1 c"], 450, "450 4.2.2"),
        (["550 5.1.1 a", "551 5.1.6 b", "550 5.1.1 c"], 550, "550 5.1.1"),
    ],
)
async def test_one_recipient_is_enough(
    resolver: Resolver, answers: list[str | None], status: int, body: str
) -> None:
    names = ("a@example.com", "b@example.com", "c@example.com")
    said = {name: answer for name, answer in zip(names, answers, strict=True) if answer}
    with MailServer(answers=said) as server:
        reply = await give(mailer(server, resolver), mail(*names))
    assert (reply.status, reply.body.decode()) == (status, body)
    assert len(server.receipts) == (status == 250)


async def test_addresses_beyond_ascii_need_the_server_s_word(resolver: Resolver) -> None:
    jörg = mail("jörg@müll.example", "ana@example.com")
    with MailServer(utf8=True) as server:
        assert (await give(mailer(server, resolver), jörg)).status == 250
    (receipt,) = server.receipts
    assert "SMTPUTF8" in receipt.options
    assert receipt.to == ("jörg@xn--mll-hoa.example", "ana@example.com")
    assert "To: jörg@xn--mll-hoa.example".encode() in receipt.content
    with MailServer(utf8=False) as server:
        reply = await give(mailer(server, resolver), jörg)
        assert (reply.status, reply.body) == (553, b"5.6.7")
        assert "ASCII" in (reply.note or "")
        assert (await give(mailer(server, resolver))).status == 250
    assert len(server.receipts) == 1


@pytest.mark.parametrize("field", ["subject", "id"])
@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: eve@example.com", "x\nBcc: eve@example.com", "x\rB: c"]
)
async def test_a_line_break_never_becomes_a_header(
    resolver: Resolver, field: str, evil: str
) -> None:
    with MailServer() as server, pytest.raises(ValueError, match=r"linefeed|carriage|invalid"):
        await give(mailer(server, resolver), mail(**{field: evil}))
    assert server.receipts == []


async def test_the_gate_is_asked_before_the_mail_begins(resolver: Resolver) -> None:
    with MailServer() as server, pytest.raises(NotSent):
        await give(mailer(server, resolver), may_write=lambda: False)
    assert (server.sessions, server.receipts) == (1, [])


async def test_few_connections_at_once_and_none_for_one_organization_alone(
    resolver: Resolver,
) -> None:
    """What found no free connection was not sent: that is no attempt."""

    async def silence(peer: Peer) -> None:
        await peer.closed()

    async with target(silence) as t, asyncio.TaskGroup() as group:
        sender = mailer(f"smtp://localhost:{t.port}", resolver)

        def start(organization: str) -> list[asyncio.Task[Reply]]:
            more = CONNECTIONS_PER_ORGANIZATION_MAX + 3
            return [
                group.create_task(give(sender, organization=organization, seconds=600))
                for _ in range(more)
            ]

        waiting = start("acme")
        await seen(lambda: t.connections == CONNECTIONS_PER_ORGANIZATION_MAX)
        waiting += start("rival")
        await seen(lambda: t.connections == CONNECTIONS_MAX)
        for organization in ("acme", "third"):
            with pytest.raises(NotSent):
                await give(sender, organization=organization, seconds=0.2)
        assert t.connections == CONNECTIONS_MAX
        for one in waiting:
            one.cancel()


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a counter has nobody to set an event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("says", "then", "reason"),
    [
        (b"", "close", Reason.CONNECTION_RESET),
        (b"", "reset", Reason.CONNECTION_RESET),
        (b"220 hi", "close", Reason.CONNECTION_RESET),
        (b"220 hi\r\n", "close", Reason.CONNECTION_RESET),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "wait", Reason.BAD_REPLY),
        (b"220-" + b"x" * 200_000, "wait", Reason.BAD_REPLY),
        (b"554 5.3.2 go away\r\n", "wait", Reason.SMTP_REPLY),
        (b"421 4.3.2 later\r\n", "wait", Reason.SMTP_REPLY),
        (b"", "wait", Reason.TIMEOUT),
        (b"220 hi\r\n", "wait", Reason.TIMEOUT),
    ],
)
async def test_a_server_that_breaks_the_rules(
    resolver: Resolver, says: bytes, then: str, reason: Reason
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(says)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.closed()

    async with target(script) as t:
        seconds = 0.5 if reason is Reason.TIMEOUT else 30
        error = await failed(mailer(f"smtp://localhost:{t.port}", resolver), seconds=seconds)
        assert error.reason is reason
        assert "127.0.0.1" not in str(error)


@pytest.mark.parametrize("then", ["close", "wait"])
async def test_silence_after_the_mail_is_no_success(resolver: Resolver, then: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 hi\r\n")
        for _ in range(3):
            await peer.reader.readline()
            await peer.say(b"250 ok\r\n")
        await peer.reader.readline()
        await peer.say(b"354 go\r\n")
        await peer.reader.readuntil(b"\r\n.\r\n")
        if then == "wait":
            await peer.closed()

    async with target(script) as t:
        seconds = 1.0 if then == "wait" else 30
        error = await failed(mailer(f"smtp://localhost:{t.port}", resolver), seconds=seconds)
    expected = Reason.TIMEOUT if then == "wait" else Reason.CONNECTION_RESET
    assert error.reason is expected


@pytest.mark.parametrize("then", ["reset", "close", "wait"])
async def test_what_comes_after_yes_does_not_matter(resolver: Resolver, then: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 hi\r\n")
        for _ in range(3):
            await peer.reader.readline()
            await peer.say(b"250 ok\r\n")
        await peer.reader.readline()
        await peer.say(b"354 go\r\n")
        await peer.reader.readuntil(b"\r\n.\r\n")
        await peer.say(b"250 2.0.0 mine\r\n")
        if then == "close":
            return
        assert await peer.reader.readline() == b"QUIT\r\n"
        if then == "reset":
            peer.reset()
        else:
            await peer.closed()

    async with target(script) as t:
        assert (await give(mailer(f"smtp://localhost:{t.port}", resolver))).status == 250


async def test_nobody_listens(resolver: Resolver) -> None:
    async with target(always()) as t:
        url = f"smtp://localhost:{t.port}"
    assert (await failed(mailer(url, resolver))).reason is Reason.CONNECTION_REFUSED
    error = await failed(mailer("smtp://no-such-host.invalid:25", resolver))
    assert error.reason is Reason.NAME_NOT_RESOLVED


async def test_cancelling_leaves_no_connection(resolver: Resolver) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.say(b"220 hi\r\n")
        await peer.closed()
        closed.set()

    async with target(script) as t:
        task = asyncio.create_task(give(mailer(f"smtp://localhost:{t.port}", resolver)))
        await seen(lambda: t.connections == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 30)
