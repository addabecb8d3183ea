"""Run a: what everybody writes first, a loop of POSTs with aiohttp that stores nothing."""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from bench.processes import cost

WORKERS = 64
BODY_BYTES = 512


async def main() -> None:
    """Post for so many seconds; says how much and what it cost."""
    job = json.loads(sys.stdin.readline())
    body = b"x" * BODY_BYTES
    headers = {"content-type": "application/json"}
    deadline = 0.0
    sent = 0

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WORKERS)) as session:

        async def worker() -> None:
            nonlocal sent
            while time.monotonic() < deadline:
                async with session.post(job["url"], data=body, headers=headers) as response:
                    await response.read()
                    assert response.status == 204
                    sent += 1

        first = time.monotonic()
        deadline = first + job["seconds"]
        await asyncio.gather(*(worker() for _ in range(WORKERS)))
    used = cost()
    said = {"events": sent, "first": first, "cpu_seconds": used.cpu_seconds}
    print(json.dumps({**said, "rss_mib": used.rss_peak_mib}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
