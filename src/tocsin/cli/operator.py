"""The way of commands to the server of a data directory, as its operator."""

from tocsin.cli.address import address
from tocsin.cli.client import Api
from tocsin.cli.errors import CommandFailed
from tocsin.cli.server import TOKEN_FILE
from tocsin.config import Settings, operator_tokens


def operator_api(settings: Settings) -> Api:
    """The server that runs from the data directory; raises CommandFailed where none is found."""
    try:
        url = address(settings.data_dir)
    except OSError:
        url = None
    if url is None:
        raise CommandFailed(
            f"another process works on {settings.sqlite_path}, and says no address",
            "wait until it is up, or stop it",
        )
    return Api(url, operator_token(settings))


def operator_token(settings: Settings) -> str:
    """From the setting, else from the data directory; raises CommandFailed if it can't be read."""
    given = operator_tokens(settings)
    if given:
        return given[0]
    path = settings.data_dir / TOKEN_FILE
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CommandFailed(
            f"can't read {path}: {error.strerror}", "run this as the user that runs the server"
        ) from None
