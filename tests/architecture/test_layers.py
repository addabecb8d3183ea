"""What the layer contract in pyproject.toml can't say: homes of libraries, and sizes."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted((SOURCE / "tocsin").rglob("*.py"))
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Who may import a library directly: modules whose name starts so. A library that stands neither
# here nor in the standard library may not be imported at all.
HOMES = {
    "aiodns": ("tocsin.net",),
    "aiosmtplib": ("tocsin.net.smtp",),
    "alembic": ("tocsin.storage.migrat",),
    "argon2": ("tocsin.crypto",),
    "asyncpg": ("tocsin.storage.postgres",),
    "cryptography": ("tocsin.crypto",),
    "cyclopts": ("tocsin.cli",),
    "httptools": ("tocsin.net", "tocsin.web.server"),
    "jinja2": ("tocsin.render",),
    "litestar": ("tocsin.web",),
    "markupsafe": ("tocsin.render",),
    "msgspec": ("tocsin",),
    "opentelemetry": ("tocsin.telemetry.traces",),
    "prometheus_client": ("tocsin.telemetry",),
    "pycares": ("tocsin.net",),
    "pydantic": ("tocsin.config",),
    "pydantic_settings": ("tocsin.config",),
    "rich": ("tocsin.cli",),
    "sqlalchemy": ("tocsin.storage",),
    "sqlite3": ("tocsin.storage.sqlite",),
    "structlog": ("tocsin.telemetry",),
    "uvicorn": ("tocsin.web",),
    "uvloop": ("tocsin.app", "tocsin.cli"),
}

# Standard library that reads a clock, makes randomness or touches the world.
IMPURE = {"asyncio", "os", "pathlib", "secrets", "socket", "sqlite3", "ssl", "subprocess", "time"}

# How a channel type could reach the network past engine and net.
NETWORK = {"aiohttp", "http.client", "httptools", "httpx", "requests", "smtplib", "socket", "ssl"}
NETWORK |= {"urllib.request", "urllib3", "xmlrpc.client"}

DIALECTS = ("tocsin.web.native", "tocsin.web.applivery", "tocsin.web.hookstream")
DRIVERS = ("tocsin.storage.sqlite", "tocsin.storage.postgres")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("tocsin", include_external_packages=True, cache_dir=None)


def family(graph: grimp.ImportGraph, package: str) -> set[str]:
    """The package and everything in it; nothing where it does not exist (yet)."""
    return {m for m in graph.modules if m == package or m.startswith(package + ".")}


def imports(graph: grimp.ImportGraph, package: str) -> Iterator[tuple[str, str]]:
    """Every direct import made by the package or a part of it, as (importer, imported)."""
    for importer in sorted(family(graph, package)):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            yield importer, imported


def imported_names(path: Path) -> Iterator[str]:
    """Full dotted names, where grimp only keeps the first part of an outside module's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_library_has_its_home(graph: grimp.ImportGraph) -> None:
    strays = [
        f"{importer} imports {library}"
        for importer, library in imports(graph, "tocsin")
        if not library.startswith("tocsin")
        and (library in HOMES or library not in sys.stdlib_module_names)
        and not importer.startswith(HOMES.get(library, ()))
    ]
    assert strays == []


def test_domain_imports_only_msgspec_and_pure_standard_library(graph: grimp.ImportGraph) -> None:
    pure = (sys.stdlib_module_names | {"msgspec"}) - IMPURE
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports(graph, "tocsin.domain")
        if not imported.startswith("tocsin.domain") and imported not in pure
    ]
    assert strays == []


def test_channels_cannot_reach_the_network(graph: grimp.ImportGraph) -> None:
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports(graph, "tocsin.channels")
        if imported in family(graph, "tocsin.net")
    ]
    strays += [
        f"{path.name} imports {name}"
        for path in (SOURCE / "tocsin" / "channels").rglob("*.py")
        for name in imported_names(path)
        if name in NETWORK or name.startswith(tuple(f"{n}." for n in NETWORK))
    ]
    assert strays == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_blind_to_each_other(graph: grimp.ImportGraph, dialect: str) -> None:
    others = {m for other in DIALECTS if other != dialect for m in family(graph, other)}
    assert [pair for pair in imports(graph, dialect) if pair[1] in others] == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_drivers_are_imported_by_storage_only(graph: grimp.ImportGraph, driver: str) -> None:
    outside = [
        f"{importer} imports {imported}"
        for importer, imported in imports(graph, "tocsin")
        if imported.startswith(driver) and not importer.startswith("tocsin.storage")
    ]
    assert outside == []


def test_channel_types_are_imported_by_channels_only(graph: grimp.ImportGraph) -> None:
    types = family(graph, "tocsin.channels") - {"tocsin.channels", "tocsin.channels.base"}
    outside = [
        f"{importer} imports {imported}"
        for importer, imported in imports(graph, "tocsin")
        if imported in types and not importer.startswith("tocsin.channels")
    ]
    assert outside == []


def test_every_folder_is_a_package() -> None:
    """One without `__init__.py` would be invisible to every contract."""
    folders = {path.parent for path in MODULES}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_is_short(path: Path) -> None:
    text = path.read_text()
    long_functions = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long_functions == []
    assert len(text.splitlines()) <= MODULE_LINES_MAX
