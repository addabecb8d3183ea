"""What the demo says, line by line, so that it reads the same in a terminal and in a log."""

from rich.text import Text

from tocsin.cli import output
from tocsin.cli.demo.world import HOOKSTREAM_SECRET, ORGANIZATION, PROJECT, Made, World
from tocsin.cli.receiver import Arrival
from tocsin.domain.text import visible

PATH_WIDTH = 12
TYPE_WIDTH = 17


class Show:
    """Prints the demo's steps and whatever arrives."""

    def __init__(self) -> None:
        self._out = output.console()

    def title(self) -> None:
        """What is about to happen."""
        self._out.print()
        self._line(("Tocsin", "bold"), " takes an event once and delivers it to every channel that")
        self._line("wants it. This runs the real service on a temporary directory.")

    def step(self, number: int, text: str, detail: str = "") -> None:
        """A new step begins."""
        self._out.print()
        self._line((f"{number}  {text}", "bold cyan"))
        if detail:
            self._line((f"   {detail}", "dim"))

    def fact(self, name: str, value: str) -> None:
        """One thing that is so now."""
        self._line(f"   {name:<{PATH_WIDTH}} ", (value, ""))

    def channel(self, made: Made) -> None:
        """A channel was made."""
        self._line(("   ✔ ", "green"), (f"{made.dialect:<11}", "bold"), f" {made.call}")
        self._line((f"     hears {made.hears}; signed with {made.proof}", "dim"))

    def published(self, type: str, count: int) -> None:
        """An event was accepted."""
        plural = "" if count == 1 else "s"
        self._line(
            ("   → ", "cyan"),
            (f"{type:<{TYPE_WIDTH}}", "bold"),
            f" stored, {count} deliver{'y' if not plural else 'ies'}",
        )

    def arrival(self, arrival: Arrival, type: str) -> None:
        """The receiver got a request."""
        attempt = visible(arrival.headers.get("tocsin-attempt", "1"))
        line = Text("   ")
        good = arrival.verified
        line.append("✔ " if good else "✘ ", "green" if good else "bold red")
        line.append(f"{visible(arrival.path):<{PATH_WIDTH}} ", "bold")
        line.append(f"{visible(type):<{TYPE_WIDTH}} ")
        if good:
            line.append("verified", "green").append(f" by {' and '.join(arrival.proofs)}", "dim")
        elif good is None:
            line.append("not from a channel of the demo", "yellow")
        else:
            line.append("its signature is WRONG", "bold red")
        if arrival.status >= 300:
            line.append(f"  we answer {arrival.status}: it will be tried again", "yellow")
        elif attempt != "1":
            line.append(f"  attempt {attempt}: the retry", "yellow")
        self._out.print(line, soft_wrap=True)

    def verdict(self, *, good: bool, text: str) -> None:
        """How it ended."""
        self._out.print()
        mark = ("   ✔ ", "bold green") if good else ("   ✘ ", "bold red")
        self._line(mark, (text, "bold"))

    def missing(self, path: str, type: str) -> None:
        """A delivery that should have come and has not."""
        self._line(("     missing: ", "red"), f"{type} on {path}")

    def try_it(self, world: World, receiver_url: str) -> None:
        """Lines to copy."""
        self._out.print()
        self._line(("Now you", "bold cyan"), (" – copy a line into another terminal:", "dim"))
        for comment, command in examples(world, receiver_url):
            self._out.print()
            self._line((f"# {comment}", "dim"))
            self._out.print(Text(command), soft_wrap=True)
        self._out.print()
        self._line(("What arrives is shown here. ", ""), ("Ctrl-C", "bold"), " ends it all.")
        self._out.print()

    def _line(self, *parts: str | tuple[str, str]) -> None:
        self._out.print(Text.assemble(*parts), soft_wrap=True)


def examples(world: World, receiver_url: str) -> list[tuple[str, str]]:
    """Commands to try, each with what it does."""
    json = "-H 'Content-Type: application/json'"
    bearer = f"-H 'Authorization: Bearer {world.key}'"
    return [
        (
            "publish an event",
            f"curl {world.url}/api/v1/organizations/{ORGANIZATION}/events {bearer} {json} "
            """-d '{"type": "build.created", "data": {"number": 43}}'""",
        ),
        (
            "a channel as Applivery's API makes it",
            f"curl {world.url}/v1/organizations/{ORGANIZATION}/apps/{PROJECT}/notifications "
            f"{bearer} {json} -d '"
            '{"type": "webhook", "events": {"feedbackCreated": true}, '
            f'"setup": {{"webhook": {{"url": "{receiver_url}/mine"}}}}}}\'',
        ),
        (
            "a channel as hookstream's API makes it",
            f"curl {world.url}/v1/notification-channels -H 'X-API-Key: {world.key}' {json} -d '"
            '{"name": "mine", "channel_type": "webhook", '
            f'"config": {{"url": "{receiver_url}/mine", "secret": "{HOOKSTREAM_SECRET}"}}}}\'',
        ),
        (
            "the log of deliveries",
            f"curl {world.url}/api/v1/organizations/{ORGANIZATION}/deliveries {bearer}",
        ),
        ("the API, all three dialects", f"curl {world.url}/api/openapi.json"),
    ]
