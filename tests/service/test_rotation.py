"""Rotation of channels' secrets and keys, and of the master key everything is sealed under."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.service.parts import OPERATOR, URL, Parts, caller, draft

from tocsin.channels import channel_types
from tocsin.crypto.sealing import Sealer, UnsealFailed, new_master_key
from tocsin.domain.errors import Conflict, Forbidden, NotFound, Unavailable
from tocsin.domain.model import ChannelState, Role, Secrets
from tocsin.service.channels import ChannelPatch
from tocsin.service.master_key import MasterKey, Rotation
from tocsin.service.sight import Sight
from tocsin.service.vault import Vault
from tocsin.storage.control import channels, master_keys

pytestmark = pytest.mark.anyio

ENDS_SECONDS_MAX = 60.0
V1A = {"url": URL, "asymmetric_signature": True}

Found = tuple[ChannelState, Secrets]


async def opened(parts: Parts, sight: Sight, channel_id: str) -> Found:
    state = await parts.channels.get(OPERATOR, sight, channel_id)
    return state, parts.vault.open(state.channel)


# Secrets of channels


async def test_of_many_rotations_at_most_three_old_secrets_sign(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    made = [
        (await parts.channels.rotate_secret(OPERATOR, sight, channel_id)).secret for _ in range(6)
    ]
    _, secrets = await opened(parts, sight, channel_id)
    assert secrets.signing(parts.clock.wall_ms()) == [made[5], *made[2:5]]
    assert secrets.signing(parts.clock.wall_ms() + 86_402_000) == [made[5]]
    # Without an overlap nothing old signs, also not from a rotation before.
    last = await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=0)
    _, secrets = await opened(parts, sight, channel_id)
    assert secrets.signing(parts.clock.wall_ms()) == [last.secret]


async def test_what_has_expired_goes_with_the_next_save(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=60)
    change = ChannelPatch(headers={"x-one": "1"})
    await parts.channels.update(OPERATOR, sight, channel_id, change)
    state, secrets = await opened(parts, sight, channel_id)
    assert len(secrets.retiring) == 1
    parts.clock.ahead_ms = 62_000
    # What changes nothing has no effect, as ever.
    same = await parts.channels.update(OPERATOR, sight, channel_id, change)
    assert same.channel.version == state.channel.version
    change = ChannelPatch(headers={"x-one": "2"})
    await parts.channels.update(OPERATOR, sight, channel_id, change)
    _, secrets = await opened(parts, sight, channel_id)
    assert secrets.retiring == ()


async def test_a_type_that_does_not_sign_has_nothing_to_rotate(parts: Parts) -> None:
    sight = await parts.organization()
    slack = {"url": "https://hooks.slack.com/services/T0/B0/secret"}
    state = await parts.channel(sight, type="slack", settings=slack)
    for call in (parts.channels.rotate_secret, parts.channels.secret):
        with pytest.raises(NotFound, match="type slack has no signing secret"):
            await call(OPERATOR, sight, state.channel.id)


async def test_secrets_that_cannot_be_read_are_not_rotated(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight)
    lost = replace(state.channel, sealed=b"damaged", version=2)
    await parts.store.write(lambda c: channels.replace(c, sight, lost, expected_version=1))
    for call in (parts.channels.rotate_secret, parts.channels.secret):
        with pytest.raises(Conflict, match="can't be read"):
            await call(OPERATOR, sight, state.channel.id)


async def test_a_key_is_made_rotated_and_forgotten_with_its_setting(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight, settings=V1A)
    channel_id = state.channel.id
    settings, _ = parts.channels.masked(state)
    shown = parts.channels.public_key(state, settings)
    keys = await parts.channels.secret(OPERATOR, sight, channel_id)
    assert keys.public_key == shown
    assert shown is not None
    assert shown.startswith("whpk_")
    _, before = await opened(parts, sight, channel_id)
    rotated = await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=60)
    assert rotated.public_key not in (None, shown)
    _, secrets = await opened(parts, sight, channel_id)
    signing = [secrets.secret, secrets.private_key, before.secret, before.private_key]
    assert secrets.signing(parts.clock.wall_ms()) == signing
    # Another change keeps it; without the setting it is gone, and what retires with it.
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(name="other"))
    assert await parts.channels.secret(OPERATOR, sight, channel_id) == rotated
    off = ChannelPatch(settings={"asymmetric_signature": None})
    await parts.channels.update(OPERATOR, sight, channel_id, off)
    state, secrets = await opened(parts, sight, channel_id)
    assert secrets.signing(parts.clock.wall_ms()) == [rotated.secret, before.secret]
    assert parts.channels.masked(state)[0].keys() == {"url", "send_token", "signing_secret"}


# The master key


def wired(parts: Parts, *keys: str) -> Sealer:
    """From now on these parts work with these master keys, as after a restart."""
    parts.sealer = Sealer(keys)
    vault: Any = Vault(parts.sealer, channel_types())
    parts.vault = parts.channels._vault = parts.channels._channel_changes._vault = vault
    return parts.sealer


async def remember(parts: Parts) -> None:
    """What the start of a server does."""
    await parts.store.write(lambda c: master_keys.remember(c, parts.sealer.fingerprints[0]))


async def rotated(parts: Parts) -> Rotation:
    """One whole rotation to the first key, in steps of three channels."""
    rotation = MasterKey(changes=parts.changes, sealer=parts.sealer, rows_at_once=3)
    await rotation.start(OPERATOR)
    with pytest.raises(Conflict):
        await rotation.start(OPERATOR)
    latest = await reached(rotation, lambda now: now.status != "running")
    await rotation.close()
    return latest


async def reached(rotation: MasterKey, there: Callable[[Rotation], bool]) -> Rotation:
    """The rotation, once it is so far."""
    deadline = time.monotonic() + ENDS_SECONDS_MAX
    while time.monotonic() < deadline:
        latest = rotation.latest(OPERATOR)
        if latest is not None and there(latest):
            return latest
        await asyncio.sleep(0)
    raise AssertionError(f"not so far: {rotation.latest(OPERATOR)}")


async def sealed(parts: Parts) -> list[master_keys.Sealed]:
    return await parts.store.read(lambda c: master_keys.walk(c, above="", limit=1000))


async def test_everything_is_sealed_anew_and_the_old_key_forgotten(parts: Parts) -> None:
    old, new = new_master_key(), new_master_key()
    wired(parts, old)
    await remember(parts)
    first, second = await parts.organization("One"), await parts.organization("Two")
    for sight in (first, second):
        for _ in range(4):
            await parts.channel(sight)
    before = [
        (await parts.channels.secret(OPERATOR, first, one.channel_id)).secret
        for one in (await sealed(parts))[:4]
    ]
    wired(parts, new, old)
    await remember(parts)
    made = await rotated(parts)
    assert (made.status, made.total, made.done, made.resealed) == ("done", 8, 8, 8), made.error
    known = await parts.store.read(master_keys.fingerprints)
    assert known == [parts.sealer.fingerprints[0]]
    wired(parts, new)
    after = [
        (await parts.channels.secret(OPERATOR, first, one.channel_id)).secret
        for one in (await sealed(parts))[:4]
    ]
    assert after == before
    # Nothing of the channels has changed for anybody, and once more is no harm.
    state = await parts.channels.get(OPERATOR, first, (await sealed(parts))[0].channel_id)
    assert state.channel.version == 1
    again = await rotated(parts)
    assert (again.status, again.resealed) == ("done", 0)
    await parts.channel(first)


async def test_what_was_interrupted_goes_on(parts: Parts) -> None:
    old, new = new_master_key(), new_master_key()
    wired(parts, old)
    await remember(parts)
    sight = await parts.organization()
    for _ in range(8):
        await parts.channel(sight)
    wired(parts, new, old)
    await remember(parts)
    stop = MasterKey(changes=parts.changes, sealer=parts.sealer, rows_at_once=1)
    await stop.start(OPERATOR)
    await reached(stop, lambda now: now.resealed > 0)
    await stop.close()
    stopped = stop.latest(OPERATOR)
    assert stopped is not None
    assert stopped.status == "failed"
    done = [one for one in await sealed(parts) if parts.sealer.sealed_now(one.blob)]
    assert 0 < len(done) < 8
    assert len(await parts.store.read(master_keys.fingerprints)) == 2
    made = await rotated(parts)
    assert (made.status, made.resealed) == ("done", 8 - len(done))


async def test_nobody_seals_under_the_old_key_meanwhile(parts: Parts) -> None:
    """As a node would that was not started anew; and the rotation can be turned round."""
    old, new = new_master_key(), new_master_key()
    wired(parts, old)
    await remember(parts)
    sight = await parts.organization()
    state = await parts.channel(sight)
    begun = Sealer((new, old)).fingerprints[0]
    await parts.store.write(lambda c: master_keys.begin(c, begun))
    wired(parts, old, new)
    change = ChannelPatch(headers={"x-one": "1"})
    with pytest.raises(Unavailable, match=begun):
        await parts.channel(sight)
    with pytest.raises(Unavailable, match=begun):
        await parts.channels.update(OPERATOR, sight, state.channel.id, change)
    with pytest.raises(Unavailable, match=begun):
        await parts.channels.rotate_secret(OPERATOR, sight, state.channel.id)
    assert (await rotated(parts)).status == "done"
    await parts.channels.update(OPERATOR, sight, state.channel.id, change)


async def test_a_change_of_the_same_moment_does_not_bring_the_old_blob_back(parts: Parts) -> None:
    old, new = new_master_key(), new_master_key()
    wired(parts, old)
    await remember(parts)
    sight = await parts.organization()
    state = await parts.channel(sight)
    wired(parts, new, old)
    await remember(parts)
    write = parts.store.write

    async def raced(work: Any) -> Any:
        parts.store.write = write  # type: ignore[method-assign]
        assert (await rotated(parts)).resealed == 1
        return await write(work)

    parts.store.write = raced  # type: ignore[method-assign]
    changed = await parts.channels.update(
        OPERATOR, sight, state.channel.id, ChannelPatch(name="other")
    )
    assert changed.channel.name == "other"
    wired(parts, new)
    assert (await parts.channels.secret(OPERATOR, sight, state.channel.id)).secret


async def test_what_opens_under_no_key_stays_and_is_counted(parts: Parts) -> None:
    await remember(parts)
    sight = await parts.organization()
    state, _ = await parts.channels.create(OPERATOR, sight, draft())
    lost = replace(state.channel, sealed=b"damaged", version=2)
    await parts.store.write(lambda c: channels.replace(c, sight, lost, expected_version=1))
    made = await rotated(parts)
    assert (made.status, made.unreadable, made.resealed) == ("done", 1, 0)
    found = await parts.channels.get(OPERATOR, sight, state.channel.id)
    assert found.channel.sealed == b"damaged"
    with pytest.raises(UnsealFailed):
        parts.vault.open(found.channel)


async def test_only_the_operator_rotates_the_master_key(parts: Parts) -> None:
    admin = caller(await parts.organization(), Role.ADMIN)
    rotation = MasterKey(changes=parts.changes, sealer=parts.sealer)
    with pytest.raises(Forbidden):
        await rotation.start(admin)
    with pytest.raises(Forbidden):
        rotation.latest(admin)
