import base64
import hashlib
import re
import zlib

import pytest

from tocsin.crypto.tokens import (
    OPERATOR_TOKEN_CHARS_MIN,
    check_token_form,
    hash_token,
    new_hookstream_token,
    new_operator_token,
    new_token,
    same,
    token_prefix,
)


def test_a_token_carries_its_checksum() -> None:
    token = new_token()
    assert re.fullmatch(r"toc_[A-Za-z0-9_-]{49}", token)
    crc = zlib.crc32(token[:47].encode()).to_bytes(4, "big")
    assert base64.urlsafe_b64decode(token[47:] + "==") == crc
    assert check_token_form(token)


def test_tokens_made_for_hookstream() -> None:
    assert re.fullmatch(r"hs_live_[0-9a-f]{64}", new_hookstream_token())
    assert re.fullmatch(r"hs_test_[0-9a-f]{64}", new_hookstream_token("test"))
    assert check_token_form(new_hookstream_token("test"))


@pytest.mark.parametrize(
    "text", ["", "toc_", "toc_" + "a" * 49, "hs_live_" + "A" * 64, "hs_dev_" + "a" * 64, "\0"]
)
def test_what_is_no_token(text: str) -> None:
    assert not check_token_form(text)
    assert not check_token_form(new_token() + "\n")


def test_one_wrong_character_is_noticed() -> None:
    token = new_token()
    for position in (4, 30, 46, 52):
        wrong = "A" if token[position] != "A" else "B"
        assert not check_token_form(token[:position] + wrong + token[position + 1 :])


def test_only_a_hash_is_stored() -> None:
    token = new_token()
    assert hash_token(token) == hashlib.sha256(token.encode()).hexdigest()
    assert len(hash_token("\ud800")) == 64
    assert token.startswith(token_prefix(token))
    assert len(token_prefix(token)) == 12


def test_operator_tokens_are_long_enough() -> None:
    assert len(new_operator_token()) >= OPERATOR_TOKEN_CHARS_MIN


def test_comparison() -> None:
    assert same("ä", "ä")
    assert not same("a", "b")
    assert not same("a", "\ud800")
