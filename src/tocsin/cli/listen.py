"""`tocsin listen`: a local receiver that verifies what it gets and prints it."""

import asyncio
import signal
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from tocsin.cli import output
from tocsin.cli.errors import CommandFailed, Misused
from tocsin.cli.receiver import Answers, Arrival, Receiver, Secrets
from tocsin.domain.text import shortened, visible

BODY_CHARS_SHOWN = 300


def listen(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 9000,
    host: str = "127.0.0.1",
    secret: Annotated[tuple[str, ...], Parameter(env_var="TOCSIN_LISTEN_SECRET", negative="")] = (),
    status: Annotated[int, Parameter(validator=Number(gte=200, lte=599))] = 200,
    fail_first: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    count: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Receive webhooks on this machine, verify and print them.

    With a secret, what does not verify is answered 401. A server delivers to
    its own machine only if it was told to:
    tocsin serve --allow-networks 127.0.0.0/8

    For example:

        tocsin listen --secret whsec_…    verify by webhook-signature
        tocsin listen --secret s3cret     verify by X-hookstream-Signature
        tocsin listen --fail-first 2      answer 500 twice, to see retries
        tocsin listen --json --count 1    print one arrival and end

    Parameters
    ----------
    port
        Port to listen on; 0 takes a free one.
    host
        Address to listen on.
    secret
        A secret to verify with; `whsec_…` checks webhook-signature, any other text
        X-hookstream-Signature. May be given several times.
    status
        Answer this status to what arrives.
    fail_first
        Answer 500 to the first so many arrivals.
    count
        End after so many arrivals, with exit code 1 if one did not verify; 0
        goes on until Ctrl-C.
    json
        Print one JSON object a line.
    """
    try:
        secrets = Secrets.of(secret)
    except ValueError as error:
        hint = "copy it whole from the channel: `tocsin channels secret ID`"
        raise Misused(f"--secret: {error}", hint) from None
    answers = Answers(status, fail_first)
    return asyncio.run(_listen(host, port, secrets, answers, count, json))


async def _listen(
    host: str, port: int, secrets: Secrets, answers: Answers, count: int, json: bool
) -> int:
    done = asyncio.Event()
    refused = 0

    def told(arrival: Arrival) -> None:
        nonlocal refused
        refused += arrival.verified is False
        if json:
            print(output.as_json(as_object(arrival), indent=None), flush=True)
        else:
            show(arrival)
        if arrival.number == count:
            done.set()

    receiver = Receiver(told, lambda path: secrets, lambda path: answers, host, port)
    try:
        await receiver.__aenter__()
    except OSError as error:
        raise CommandFailed(
            f"can't listen on {host}:{port}: {error.strerror or error}",
            "another --port; --port 0 takes a free one",
        ) from None
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, done.set)
        output.print_hint(f"listening on {receiver.url}; Ctrl-C ends")
        if not (secrets.standard or secrets.hookstream):
            output.print_hint("no --secret: signatures are not checked")
        await done.wait()
    finally:
        await receiver.__aexit__(None, None, None)
    return 1 if count and refused else 0


def as_object(arrival: Arrival) -> dict[str, Any]:
    """An arrival for scripts; a body that is no UTF-8 is shown with replacements."""
    return {
        "number": arrival.number,
        "method": arrival.method,
        "path": arrival.path,
        "headers": arrival.headers,
        "body": arrival.body.decode(errors="replace"),
        "verified": arrival.verified,
        "proofs": arrival.proofs,
        "status": arrival.status,
    }


def show(arrival: Arrival) -> None:
    """An arrival in a line for people, its body below."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    line = Text.assemble((now, "dim"), "  ", verdict(arrival), "  ")
    line.append(visible(f"{arrival.method} {arrival.path}"))
    for name in ("webhook-id", "tocsin-attempt"):
        if name in arrival.headers:
            label = name.partition("-")[2]
            line.append(f"  {label} {visible(arrival.headers[name])}", "dim")
    line.append(f"  → {arrival.status}", "green" if arrival.status < 300 else "yellow")
    out = output.console()
    out.print(line, soft_wrap=True)
    body = shortened(visible(arrival.body.decode(errors="replace")), BODY_CHARS_SHOWN)
    out.print(Text(f"          {body}", "dim"), soft_wrap=True)


def verdict(arrival: Arrival) -> Text:
    """What the signatures are worth, in a word."""
    if arrival.verified is None:
        return Text("unchecked    ", "yellow")
    if arrival.verified:
        return Text("verified     ", "green")
    bad = ", ".join(name for name, good in arrival.proofs.items() if not good)
    return Text(f"BAD SIGNATURE ({bad})", "bold red")
