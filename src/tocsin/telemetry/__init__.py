"""What tells an operator how the service is doing: logs, and metrics.

Parts count in plain numbers of their own (`counts`), and say which family of `families` each is.
Only a scrape reads them, and only the first one loads what writes them down (`exposition`).
"""

from tocsin.telemetry.logs import REQUEST_ID, JsonLines, configure_logging

__all__ = ["REQUEST_ID", "JsonLines", "configure_logging"]
