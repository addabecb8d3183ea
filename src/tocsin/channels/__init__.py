"""Channel types: every module of this package, and what other packages register.

Outside of this package only this module and `base` are imported; a type is asked for by name.
"""

import importlib
import logging
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any

from tocsin.channels.base import ChannelType, MailTransport, Sending, Transports
from tocsin.channels.fields import Settings, check_url, dump, origin_of, shown_url
from tocsin.channels.headers import check_headers, mask_headers, merge_headers
from tocsin.domain.ids import slug_valid

__all__ = [
    "ENTRY_POINT_GROUP",
    "AnyChannelType",
    "ChannelType",
    "MailTransport",
    "Sending",
    "Settings",
    "Transports",
    "channel_types",
    "check_headers",
    "check_url",
    "discover",
    "dump",
    "equipped",
    "mask_headers",
    "merge_headers",
    "origin_of",
    "shown_url",
]

ENTRY_POINT_GROUP = "tocsin.channels"

AnyChannelType = ChannelType[Any]

_log = logging.getLogger(__name__)


@cache
def channel_types() -> Mapping[str, AnyChannelType]:
    """All channel types by name, in the order of their names; looked for once."""
    return discover(entry_points(group=ENTRY_POINT_GROUP))


def discover(plug_ins: Iterable[EntryPoint] = ()) -> Mapping[str, AnyChannelType]:
    """Collect this package's types and the given plug-ins.

    A plug-in that can't be loaded, is no channel type, or takes a name that is already there is
    logged and left out: a third party's mistake must not stop the service.
    """
    types = {one.name: one for module in _modules() for one in _types_of(module)}
    for entry_point in plug_ins:
        try:
            loaded = _load(entry_point)
            if loaded.name in types:
                raise ValueError(f"there already is a channel type {loaded.name!r}")
        except Exception:
            _log.exception("channel type %r was left out", entry_point.name)
            continue
        types[loaded.name] = loaded
    return MappingProxyType(dict(sorted(types.items())))


def equipped(transports: Transports) -> Mapping[str, AnyChannelType]:
    """All channel types as they are on a server that has these transports."""
    types = channel_types().items()
    return MappingProxyType({name: one.equipped(transports) for name, one in types})


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(__path__, __name__ + "."):
        yield importlib.import_module(info.name)


def _types_of(module: ModuleType) -> Iterator[AnyChannelType]:
    return (value for value in vars(module).values() if isinstance(value, ChannelType))


def _load(entry_point: EntryPoint) -> AnyChannelType:
    loaded = entry_point.load()
    if not isinstance(loaded, ChannelType):
        raise TypeError("not an instance of tocsin.channels.ChannelType")
    if not slug_valid(getattr(loaded, "name", "")):
        raise ValueError("the name of a channel type is [a-z0-9-]{1,64}")
    loaded.schema()  # a struct that msgspec can't describe would fail every catalogue call
    return loaded
