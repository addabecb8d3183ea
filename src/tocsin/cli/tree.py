"""The tree of commands. A command is named by its module, which is imported when it is run."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, Group

from tocsin import __version__
from tocsin.cli.errors import CommandFailed

RUN = Group("Run it", sort_key=1)
WATCH = Group("Send and receive", sort_key=2)
MANAGE = Group("Manage a running server", sort_key=3)
OPERATE = Group("Operate", sort_key=4)

HELP = """Tocsin delivers every event to every channel that wants it: signed, retried, logged.

New here? `tocsin demo` shows it at work, with nothing to configure.

For example:

    tocsin serve                       run the service on 127.0.0.1:8400
    tocsin orgs create Acme            make a tenant on it
    tocsin keys create ci --org acme   and a key for its publisher
    tocsin publish build.created '{"n": 1}' --org acme
    tocsin deliveries --org acme       see where it went

On the server's own machine, commands find its address and the operator
token in the data directory. From elsewhere say --url and --token, or set
TOCSIN_URL and TOCSIN_TOKEN.
"""

# The first line of a command's own docstring is what the list says of it.
COMMANDS: tuple[tuple[str, str, Group], ...] = (
    ("serve", "serve:serve", RUN),
    ("demo", "demo:demo", RUN),
    ("listen", "listen:listen", WATCH),
    ("publish", "publish:publish", WATCH),
    ("retry", "deliveries:retry", WATCH),
    ("stats", "stats:stats", WATCH),
    ("orgs", "orgs:app", MANAGE),
    ("projects", "projects:app", MANAGE),
    ("keys", "keys:app", MANAGE),
    ("users", "users:app", MANAGE),
    ("channels", "channels:app", MANAGE),
    ("events", "events:app", MANAGE),
    ("deliveries", "deliveries:app", MANAGE),
    ("jobs", "jobs:app", MANAGE),
    ("config", "config:config", OPERATE),
    ("migrate", "migrate:migrate", OPERATE),
    ("migrate-store", "migrate_store:migrate_store", OPERATE),
    ("backup", "backup:backup", OPERATE),
    ("rotate-master-key", "master_key:rotate_master_key", OPERATE),
    ("export-org", "export:export_org", OPERATE),
    ("doctor", "doctor:doctor", OPERATE),
    ("completion", "completion:completion", OPERATE),
)


def tree() -> App:
    """The whole command line; what it names is not imported yet."""
    app = App(
        name="tocsin",
        help=HELP,
        help_format="plaintext",
        version=__version__,
        result_action="return_value",
    )
    app["--help"].group = OPERATE
    app["--version"].group = OPERATE
    for name, place, group in COMMANDS:
        app.command(f"tocsin.cli.{place}", name=name, group=group)
    app.command("tocsin.cli.completion:install_here", name="--install-completion", group=OPERATE)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code it ends with."""
    try:
        app = tree()
        if not arguments or arguments[0] in app.help_flags:
            # Only the list of all commands needs what each one says of itself.
            app.resolved_commands()
        result = app(list(arguments))
        sys.stdout.flush()
    except CommandFailed as failure:
        from tocsin.cli.output import print_failure

        print_failure(failure)
        return failure.exit_code
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has what it wanted; Python's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
