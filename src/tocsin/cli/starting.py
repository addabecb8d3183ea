"""What can keep the service, or a command on its files, from starting, told to people."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE

from tocsin.cli.errors import CommandFailed, Misused
from tocsin.config import ConfigError

# By name: the classes belong to the storage drivers, which only storage may import. The messages
# of the others say themselves what to do.
HINTS = {
    "StoreInUse": "stop that process, or use another --data-dir (and --port)",
    "StoreRefused": "look at TOCSIN_STORE, and whether that server runs",
    "SchemaMismatch": "",
    "SchemaNewer": "",
    "SchemaOlder": "",
    "StoreUnfinished": "",
    "MoveRefused": "",
}


@contextmanager
def start_errors() -> Iterator[None]:
    """End the command with a clear message where starting fails for a known reason."""
    try:
        yield
    except ConfigError as error:
        raise Misused(str(error), "`tocsin config` shows every setting and its value") from None
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        hint = "another --port; --port 0 takes a free one" if error.errno == EADDRINUSE else ""
        raise CommandFailed(f"can't start: {error.strerror or error}{where}", hint) from None
    except Exception as error:
        hint_of = HINTS.get(type(error).__name__)
        if hint_of is None:
            raise
        raise CommandFailed(str(error), hint_of) from None
