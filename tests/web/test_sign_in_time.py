"""The time of a refused sign-in does not tell whether there is such an account."""

import statistics
import time
from pathlib import Path

import pytest
from tests.web.fakes import Client
from tests.web.people import new_user

from tocsin.app import App
from tocsin.config import load
from tocsin.crypto.passwords import Passwords
from tocsin.storage.control import users
from tocsin.web.asgi import build

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.alone]

SIGN_INS = 500
DIFFERENCE_MS_MAX = 1.0
ROUNDS_MAX = 5


async def test_known_and_unknown_users_take_the_same_time(tmp_path: Path) -> None:
    """The hash is a cheap one, so that it does not hide the rest in its own noise.

    Known and unknown take turns, so that whatever else the machine does meets both alike. A round
    in which it was so busy that the median of either half of the *same* kind differs by more than
    the bar says nothing, and is measured again; where all were, a difference is in each of them.
    """
    off = {"sign_in_failures_max": 0, "sign_in_failures_per_address_max": 0}
    off |= {"stranger_requests_per_minute": 0, "requests_per_minute": 0}
    flags = {"data_dir": tmp_path, "port": 0, **off}
    async with App(load(flags), passwords=Passwords(time_cost=1, memory_kib=64)) as app:
        call = Client(build(app, app.settings, cursor_key=b"k" * 32))
        user = new_user()
        password_hash = await app.passwords.hash("the right password")
        await app.changes.store.write(lambda c: users.create(c, user, password_hash=password_hash))

        async def once(email: str) -> float:
            body = {"email": email, "password": "a wrong password"}
            started = time.perf_counter()
            answer = await call("POST", "/api/v1/auth/sign-in", body)
            took = (time.perf_counter() - started) * 1000
            assert answer.status == 401, answer
            return took

        for number in range(20):
            await once(user.email)
            await once(f"warm-{number}@example.com")
        noise, differences = DIFFERENCE_MS_MAX, []
        for _ in range(ROUNDS_MAX):
            known: list[float] = []
            unknown: list[float] = []
            for number in range(SIGN_INS // 2):
                for times, email in (
                    (known, user.email),
                    (unknown, f"nobody-{number}@example.com"),
                ):
                    times.append(await once(email))
            noise = max(map(unrest, (known, unknown)))
            differences.append(abs(statistics.median(known) - statistics.median(unknown)))
            if noise < DIFFERENCE_MS_MAX:
                differences = differences[-1:]
                break
        told = f"{differences} ms beside {noise:.3f} ms of noise"
        assert min(differences) < DIFFERENCE_MS_MAX, told


def unrest(times: list[float]) -> float:
    """How far the medians of the odd and of the even measurements of one kind are apart."""
    return abs(statistics.median(times[::2]) - statistics.median(times[1::2]))
