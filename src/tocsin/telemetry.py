"""Logs: one line an event, for people on a terminal and as JSON for machines."""

import logging
import sys
from datetime import UTC, datetime

import msgspec

TERMINAL = "console"


def configure_logging(level: str, format: str) -> None:
    """Send every log of the process to standard error, in the asked form.

    `auto` is for people where standard error is a terminal, else JSON.
    """
    for_people = format == TERMINAL or (format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_for_people() if for_people else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        whole = {
            name: text.encode(errors="backslashreplace").decode() for name, text in line.items()
        }
        return msgspec.json.encode(whole).decode()


def _for_people() -> logging.Formatter:
    # Imported only here: a service seldom has a terminal, and structlog brings half of rich along.
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
    )
