"""Ids and slugs: how they are made, and what text counts as one.

An id is 24 lower-case hex characters: 48 bits of milliseconds, a 24-bit node number, a 24-bit
counter. Ids of one maker sort by making; ids of several makers sort by millisecond.
"""

import hashlib
import re
import threading
import unicodedata

SLUG_CHARS_MAX = 64

_MS_MAX = 2**48 - 1
_NODE_MAX = 2**24 - 1
_COUNTER_MAX = 2**24 - 1

_LAST_DIGITS = tuple(f"{n:03x}" for n in range(16**3))

_ID = re.compile(r"[0-9a-fA-F]{24}", re.ASCII)
_PREFIXED_ID = re.compile(r"[a-z]+_([0-9a-fA-F]{24})", re.ASCII)
_SLUG = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


class IdMaker:
    """Makes ids that strictly increase, whatever the clock does; not for use by two threads.

    `node` must never have been used before. `start_ms` is the latest time already stored: no id is
    made below it.
    """

    __slots__ = ("_counter", "_head", "_ms", "_node")

    def __init__(self, node: int, start_ms: int = 0) -> None:
        if not 0 <= node <= _NODE_MAX:
            raise ValueError(f"a node number is 0..{_NODE_MAX}, not {node}")
        self._node = node
        # One below the start, so that the first id already carries `start_ms`.
        self._ms = start_ms - 1
        self._head = ""
        self._counter = _COUNTER_MAX

    def make(self, now_ms: int) -> str:
        """A new id, above every id this maker has made."""
        if now_ms > self._ms:
            self._move_to(now_ms)
        elif self._counter == _COUNTER_MAX:
            self._move_to(self._ms + 1)
        else:
            self._counter += 1
        return "%s%06x" % (self._head, self._counter)  # noqa: UP031 - half the time of an f-string

    def make_many(self, now_ms: int, count: int) -> list[str]:
        """So many new ids, in order; the same as that many calls of `make`."""
        ids: list[str] = []
        while len(ids) < count:
            ids.append(self.make(now_ms))
            # The rest of this run of the last three digits.
            first = self._counter % len(_LAST_DIGITS) + 1
            run = _LAST_DIGITS[first : first + count - len(ids)]
            head = ids[-1][:-3]
            ids += [head + digits for digits in run]
            self._counter += len(run)
        return ids

    def _move_to(self, ms: int) -> None:
        if ms > _MS_MAX:
            raise OverflowError("the clock is beyond the range of an id")
        self._ms = ms
        self._head = f"{ms:012x}{self._node:06x}"
        self._counter = 0


class SharedIdMaker(IdMaker):
    """One for several threads: what it makes strictly increases across all of them.

    Publishing makes ids on the event loop, control changes make them in the writer.
    """

    __slots__ = ("_lock",)

    def __init__(self, node: int, start_ms: int = 0) -> None:
        super().__init__(node, start_ms)
        # One that may be taken twice: making many makes one first.
        self._lock = threading.RLock()

    def make(self, now_ms: int) -> str:
        """See `IdMaker.make`."""
        with self._lock:
            return super().make(now_ms)

    def make_many(self, now_ms: int, count: int) -> list[str]:
        """See `IdMaker.make_many`."""
        with self._lock:
            return super().make_many(now_ms, count)


def derived(ms: int, *parts: str) -> str:
    """An id of this millisecond, made from what it stands for: the same parts give the same id.

    For transactions, which may be run again. Its node and counter are a digest.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{min(max(ms, 0), _MS_MAX):012x}{digest[:12]}"


def floor(ms: int) -> str:
    """The lowest id that could have been made at this millisecond; for bounds of id ranges."""
    return f"{min(max(ms, 0), _MS_MAX):012x}000000000000"


def is_id(text: str) -> bool:
    """Whether the text is an id in any case: 24 hex characters always are one."""
    return _ID.fullmatch(text) is not None


def normalize_id(text: str) -> str | None:
    """The id in lower case, as it is stored; None for what is no id."""
    return text.lower() if _ID.fullmatch(text) else None


def strip_prefix(text: str) -> str:
    """The id without a `[a-z]+_` before it, lower-cased; any other text as it is."""
    match = _PREFIXED_ID.fullmatch(text)
    return match[1].lower() if match else text


def id_time_ms(id: str) -> int:
    """The millisecond in which an id was made."""
    return int(id[:12], 16)


def slug_valid(text: str) -> bool:
    """Whether the text may be a slug: `[a-z0-9-]{1,64}`, and not what would be an id."""
    return _SLUG.fullmatch(text) is not None and not is_id(text)


def slug_from_name(name: str, number: int = 1) -> str:
    """A valid slug that resembles the name; `number` asks for the next choice when one is taken."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    tail = f"-{number}" if number > 1 else ""
    slug = _NOT_SLUG.sub("-", plain).strip("-")[: SLUG_CHARS_MAX - len(tail)].strip("-")
    slug = (slug or "unnamed") + tail
    return f"{slug}-x" if is_id(slug) else slug
