"""The receiver: what it believes, how it answers, what it prints."""

import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.cli.running import Cli

from tocsin.crypto.signing import hookstream_signature, new_secret, sign

BODY = b'{"type": "build.created"}'
SECRET = new_secret()


@contextmanager
def listening(cli: Cli, *arguments: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    process = cli.start("listen", "--port", "0", *arguments)
    assert process.stderr is not None
    first = process.stderr.readline()
    try:
        yield int(first.split()[2].rstrip(";").rpartition(":")[2]), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def signed(secret: str, *, seconds_ago: int = 0) -> dict[str, str]:
    now = int(time.time()) - seconds_ago
    return {
        "webhook-id": "01a200517b15000001000000",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([secret], "01a200517b15000001000000", now, BODY),
    }


def post(port: int, headers: dict[str, str], body: bytes = BODY) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/hook", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_verifies_and_refuses(cli: Cli) -> None:
    with listening(cli, "--secret", SECRET, "--json", "--count", "4") as (port, process):
        assert post(port, signed(SECRET)) == 200
        assert post(port, signed(new_secret())) == 401
        assert post(port, signed(SECRET, seconds_ago=400)) == 401
        assert post(port, {}) == 401
        out, _ = process.communicate(timeout=120)
    arrivals = [json.loads(line) for line in out.splitlines()]
    assert [one["verified"] for one in arrivals] == [True, False, False, False]
    assert [one["status"] for one in arrivals] == [200, 401, 401, 401]
    assert arrivals[0]["body"].encode() == BODY
    assert arrivals[0]["proofs"] == {"webhook-signature": True}
    assert process.returncode == 1


def test_checks_each_secret_by_its_own_header(cli: Cli) -> None:
    proof = {"x-hookstream-signature": hookstream_signature("s3cret", BODY)}
    both = ("--secret", SECRET, "--secret", "s3cret")
    with listening(cli, *both, "--count", "2") as (port, process):
        assert post(port, signed(SECRET) | proof) == 200
        assert post(port, proof) == 401
        out, _ = process.communicate(timeout=120)
    first, _, second, _ = out.splitlines()
    assert "verified" in first
    assert "BAD SIGNATURE (webhook-signature)" in second


def test_fails_first_then_answers_as_told(cli: Cli) -> None:
    arguments = ("--fail-first", "2", "--status", "202", "--count", "4", "--json")
    with listening(cli, *arguments) as (port, process):
        assert [post(port, {}) for _ in range(4)] == [500, 500, 202, 202]
        # The line after the first may have been read with it: then nothing else gets it any more.
        assert process.stderr is not None
        second = process.stderr.readline()
        out, _ = process.communicate(timeout=120)
    assert [json.loads(line)["verified"] for line in out.splitlines()] == [None] * 4
    assert "not checked" in second
    assert process.returncode == 0


def test_survives_senders_that_speak_no_http(cli: Cli) -> None:
    hostile = [
        b"\x00\x01\x02\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc",
        b"A" * 100_000,
    ]
    with listening(cli, "--count", "2", "--json") as (port, process):
        for raw in hostile:
            with (
                socket.create_connection(("127.0.0.1", port), 120) as sender,
                # Who sends too much is cut off, before or after the last of it.
                suppress(OSError),
            ):
                sender.sendall(raw)
                sender.shutdown(socket.SHUT_WR)
                assert sender.recv(100) == b""
        chunked = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 120) as sender:
            sender.sendall(chunked)
            assert sender.recv(100).startswith(b"HTTP/1.1 200 ")
        assert post(port, {}) == 200
        out, _ = process.communicate(timeout=120)
    assert [json.loads(line)["body"] for line in out.splitlines()] == ["abc", BODY.decode()]


def test_shows_what_could_steer_a_terminal(cli: Cli) -> None:
    with listening(cli, "--count", "1") as (port, process):
        post(port, {"webhook-id": "a\x1b[2J"}, b"\x1b[31mred")
        out, _ = process.communicate(timeout=120)
    assert "\x1b" not in out
    assert "␛[31mred" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_orderly(cli: Cli, number: signal.Signals) -> None:
    with listening(cli) as (_, process):
        process.send_signal(number)
        process.communicate(timeout=120)
    assert process.returncode == 0


def test_taken_port_says_so(cli: Cli) -> None:
    with listening(cli) as (port, _):
        ended = cli.run("listen", "--port", str(port))
    assert ended.returncode == 1
    assert "--port 0" in ended.stderr
