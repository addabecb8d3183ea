"""Logs: one line an event, for people on a terminal and as JSON for machines.

The code logs with the standard library. Nothing that reaches the output holds a control character
or what looks like a credential, and what repeats itself is written once a second with a count.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from tocsin.domain.text import visible
from tocsin.telemetry.masking import masked

TERMINAL = "console"
REPEAT_SECONDS = 1.0
REPEATS_KEPT_MAX = 256

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id that the reply to the present request carries, if it does."""


def configure_logging(level: str, format: str) -> None:
    """Send every log of the process to standard error, in the asked form.

    `auto` is for people where standard error is a terminal, else JSON.
    """
    for_people = format == TERMINAL or (format == "auto" and sys.stderr.isatty())
    handler = SteadyHandler(sys.stderr)
    handler.setFormatter(_for_people() if for_people else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """A record as one line of JSON.

    Not by structlog, which would cost every start a quarter of a second and 10 MiB.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, object] = {
            "timestamp": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            # JSON itself shows U+0000 to U+001F: only what it would pass on is left to do.
            "event": _shown(record.getMessage()),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        if repeated := getattr(record, "repeated", 0):
            line["repeated"] = repeated
        if record.exc_info:
            line["exception"] = _shown(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = _shown(self.formatStack(record.stack_info))
        return msgspec.json.encode(line).decode()


class SteadyHandler(logging.StreamHandler[TextIO]):
    """Writes what repeats itself once a second, with the count of what was left out.

    It counts for warnings and worse. A count is told with the next record of any kind, or when
    logging ends.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._seen: dict[tuple[str, str], logging.LogRecord] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the same one was written within the last second."""
        if record.levelno < logging.WARNING:
            self._tell(record.created)
            super().emit(record)
            return
        try:
            key = (record.name, record.getMessage())
        except Exception:  # the arguments do not fit: `logging` tells that in its own way
            super().emit(record)
            return
        last = self._seen.get(key)
        if last is not None and 0 <= record.created - last.created < REPEAT_SECONDS:
            last.__dict__["repeated"] = getattr(last, "repeated", 0) + 1
            return
        self._tell(record.created)
        if len(self._seen) < REPEATS_KEPT_MAX:
            kept = logging.makeLogRecord({**record.__dict__, "exc_info": None, "stack_info": None})
            self._seen[key] = kept
        super().emit(record)

    def close(self) -> None:
        """Tell what was counted, and let go."""
        self.acquire()
        try:
            self._tell(float("inf"))
        finally:
            self.release()
        super().close()

    def _tell(self, now: float) -> None:
        """Write the counts of what began a second ago or more, and forget it."""
        for key, last in list(self._seen.items()):
            if 0 <= now - last.created < REPEAT_SECONDS:
                continue
            del self._seen[key]
            if getattr(last, "repeated", 0):
                super().emit(last)


_PASSED_ON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def _shown(text: str) -> str:
    """Text as a member of a line of JSON."""
    text = text.encode(errors="backslashreplace").decode()
    return masked(_PASSED_ON.sub(lambda found: visible(found[0]), text))


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _for_people() -> logging.Formatter:
    # Imported only here: a service seldom has a terminal, and structlog brings half of rich along.
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.format_exc_info,
            _made_plain,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
                # The default one shows local variables, and so what is in them.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
    )


def _made_plain(logger: Any, method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Nothing in the text moves a cursor, and nothing in it is a secret."""
    line["timestamp"] = _time(line["_record"])
    if request_id := REQUEST_ID.get():
        line["request_id"] = request_id
    if repeated := getattr(line["_record"], "repeated", 0):
        line["repeated"] = repeated
    line["event"] = masked(visible(str(line["event"])))
    for name in ("exception", "stack_info"):
        if name in line:
            line[name] = masked(visible(str(line[name]), keep_layout=True))
    return line
