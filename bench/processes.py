"""Child processes of the benchmark: starting, ending, and what they cost by /proc."""

import json
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

from msgspec import Struct

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Cost(Struct, frozen=True):
    """What a process has used: CPU seconds so far, memory now and at its highest."""

    cpu_seconds: float
    rss_mib: float
    rss_peak_mib: float


def cost(pid: int | str = "self") -> Cost:
    """What a living process has used so far; this one by default."""
    with open(f"/proc/{pid}/stat") as file:
        # The name, in parentheses, may hold anything.
        fields = file.read().rpartition(")")[2].split()
    memory = {"VmRSS": 0.0, "VmHWM": 0.0}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in memory:
                memory[name] = int(value.split()[0]) / 1024
    cpu = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return Cost(cpu, round(memory["VmRSS"], 1), round(memory["VmHWM"], 1))


def machine_busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used so far."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND


def yardstick_ms() -> float:
    """How long this machine takes just now for a fixed piece of pure Python: the best of five.

    The core of a shared machine may be half as fast as it was a minute ago.
    """
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        total = 0
        for number in range(200_000):
            total += number
        best = min(best, time.perf_counter() - began)
    return round(best * 1_000, 1)


class Child:
    """A module of ours in a process of its own: a job in JSON in, a result in JSON out."""

    def __init__(self, module: str, job: dict[str, Any]) -> None:
        self._module = module
        self._job = json.dumps(job).encode()

    def __enter__(self) -> "Child":
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        self.process.stdin.write(self._job + b"\n")
        self.process.stdin.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def line(self) -> Any:
        """The next line it says; waits for it."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            raise RuntimeError(f"{self._module} ended with {self.process.wait()}")
        return json.loads(said)

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
