#!/usr/bin/env python3
"""Publish what happens to a build, so that Tocsin tells everybody who wants to know.

    export BASE=http://127.0.0.1:8400 ORG=acme APP=ios KEY=toc_…
    python examples/publish_build.py life
    python examples/publish_build.py build.created app=Fjord version=4.2.0 number=118 platform=ios

`life` publishes one event of every kind that an app has. Otherwise the first word is the type of
an event, and the others are members of its data. Needs nothing but Python.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

BASE = os.environ.get("BASE", "http://127.0.0.1:8400").rstrip("/")
ORGANIZATION = os.environ.get("ORG", "")
APPLICATION = os.environ.get("APP", "")
TOKEN = os.environ.get("KEY", "")
TRIES = 5


def publish(event_type: str, data: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """Publish one event of the application; returns Tocsin's answer.

    With a key, which names this very event, it is safe to try again: it is stored once.
    """
    event = {"type": event_type, "project": APPLICATION, "data": data}
    if key is not None:
        event["idempotency_key"] = key
    request = urllib.request.Request(
        f"{BASE}/api/v1/organizations/{ORGANIZATION}/events",
        data=json.dumps(event).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or key is None or attempt == TRIES:
                sys.exit(f"{event_type}: {error.code} {error.read().decode()}")
            time.sleep(float(error.headers.get("Retry-After") or attempt))
        except OSError as error:
            if key is None or attempt == TRIES:
                sys.exit(f"{event_type}: {BASE} can't be reached: {error}")
            time.sleep(attempt)
    raise AssertionError("the last try returns or exits")


def life() -> list[tuple[str, dict[str, Any], str]]:
    """The events of a build's life, each with its idempotency key."""
    app = {"name": "Fjord"}
    number = int(time.time())
    build = {"version": "4.2.0", "number": number, "platform": "ios", "branch": "release/4.2"}
    link = f"https://apps.example/fjord/builds/{number}"
    expires = datetime.now(UTC) + timedelta(days=30)
    created = {"app": app, "build": build, "url": link, "uploaded_by": "ci@fjord.example"}
    changelog = ["Maps work offline.", "The ferry timetable is right again."]
    processed = {"app": app, "build": build | {"size": 48_100_000}, "url": link}
    feedback = {"app": app | {"version": "4.2.0"}, "author": "Ana", "message": "Love the new map!"}
    bug = {
        "app": app | {"version": "4.2.0"},
        "author": "Ana",
        "message": "It stops when the list of tickets is empty.",
        "device": "iPhone 17",
    }
    certificate = {"name": "Apple Push: com.example.fjord", "expires_at": expires.isoformat()}
    return [
        ("build.created", created, f"build-{number}-created"),
        ("build.processed", processed | {"changelog": changelog}, f"build-{number}-processed"),
        ("feedback.created", feedback, f"feedback-{number}"),
        ("bug.created", bug, f"bug-{number}"),
        ("certificate.will_expire", certificate, f"certificate-{expires:%Y-%m-%d}-30-days"),
    ]


def main(words: list[str]) -> None:
    """Publish what the command line says."""
    if not words or not (ORGANIZATION and APPLICATION and TOKEN):
        sys.exit(__doc__)
    if words == ["life"]:
        events: list[tuple[str, dict[str, Any], str | None]] = list(life())
    else:
        members = dict(word.partition("=")[::2] for word in words[1:])
        events = [(words[0], members, None)]
    for event_type, data, key in events:
        answer = publish(event_type, data, key)
        print(f"{event_type:24} {answer['id']}  {answer['deliveries']} deliveries")


if __name__ == "__main__":
    main(sys.argv[1:])
