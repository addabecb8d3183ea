"""What a look finds."""

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "note", "bad"]
MARKS: dict[State, tuple[str, str]] = {
    "good": ("✔", "green"),
    "note": ("!", "yellow"),
    "bad": ("✘", "bold red"),
}


@dataclass(frozen=True)
class Finding:
    """What one look found, and what to do if it is not good."""

    state: State
    what: str
    hint: str = ""
