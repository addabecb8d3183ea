"""Putting the edge together: routes of three dialects, their errors, the document, the front."""

from typing import Any

from litestar import Litestar, Response
from litestar.config.app import AppConfig
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import PluginProtocol

import tocsin
from tocsin.config import Settings
from tocsin.domain.errors import Invalid, MethodNotAllowed, RouteNotFound
from tocsin.telemetry.counts import RequestCounts
from tocsin.web.applivery import routes as applivery
from tocsin.web.auth import Gate
from tocsin.web.calls import Call, Edge
from tocsin.web.cookies import NAME as COOKIE
from tocsin.web.cursors import Cursors
from tocsin.web.dialects import Dialect, refuse
from tocsin.web.front import Front
from tocsin.web.hookstream import routes as hookstream
from tocsin.web.link_pages import LinkPages
from tocsin.web.metrics import MetricsPage
from tocsin.web.native import routes as native
from tocsin.web.publish import PublishHandler
from tocsin.web.reference.pages import Reference
from tocsin.web.replies import ClientGone, Scope
from tocsin.web.services import Services
from tocsin.web.spec import Document

DESCRIPTION = (
    "Delivers every event to every channel that wants it: signed, retried, logged. Three APIs "
    "over the same things: Tocsin's own, Applivery's notifications, hookstream's channels."
)


def build(services: Services, settings: Settings, *, cursor_key: bytes) -> Front:
    """The ASGI application. `cursor_key` is secret and survives restarts; all nodes share it."""
    gate, counts = Gate(services), RequestCounts()
    publish = PublishHandler(
        gate=gate,
        publisher=services.publisher,
        clock=services.clock,
        counts=counts,
        events_per_second=settings.publish_events_per_second,
    )
    framework = _framework()
    framework.state["edge"] = Edge(services, gate, Cursors(cursor_key))
    base = settings.public_url or f"http://{settings.host}:{settings.port}"
    framework.state["reference"] = reference = Reference(
        lambda: framework.openapi_schema.to_schema(), base.rstrip("/")
    )
    return Front(
        framework=framework,
        publish=publish,
        gate=gate,
        ready=services.health,
        reference=reference,
        links=LinkPages(services, gate),
        metrics=MetricsPage(services, gate),
        counts=counts,
        clock=services.clock,
    )


class _Framework(Litestar):
    """Litestar without what it looks for by itself: other model libraries, OpenTelemetry."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins

    @staticmethod
    def _patch_opentelemetry_middleware(config: AppConfig) -> AppConfig:
        return config


def _framework() -> Litestar:
    handlers: dict[Any, Any] = {HTTPException: _on_error, Exception: _on_error}
    return _Framework(
        route_handlers=[native.ROUTER, applivery.ROUTER, hookstream.ROUTER],
        request_class=Call,
        exception_handlers=handlers,
        openapi_config=OpenAPIConfig(
            title="Tocsin",
            version=tocsin.__version__,
            path="/api/openapi.json",
            use_handler_docstrings=True,
            description=DESCRIPTION,
            render_plugins=[Document()],
            security=[{"bearer": []}, {"key": []}, {"session": []}],
            components=Components(
                security_schemes={
                    "bearer": SecurityScheme(type="http", scheme="bearer"),
                    "key": SecurityScheme(
                        type="apiKey", name="X-API-Key", security_scheme_in="header"
                    ),
                    "session": SecurityScheme(
                        type="apiKey", name=COOKIE, security_scheme_in="cookie"
                    ),
                }
            ),
        ),
        logging_config=None,
        debug=False,
    )


def _on_error(request: Any, error: Exception) -> Response[Any]:
    scope: Scope = request.scope
    if isinstance(error, ClientGone):
        return Response(b"", status_code=400)
    if isinstance(error, HTTPException):
        error = _translated(scope, error)
    if isinstance(error, MethodNotAllowed) and scope.get("tocsin.asks"):
        return Response(b"", status_code=204, headers={"allow": ", ".join(error.allowed)})
    refusal = refuse(scope, error)
    return Response(
        refusal.body,
        status_code=refusal.status,
        media_type=refusal.content_type.decode(),
        headers={name.decode(): value.decode() for name, value in refusal.headers},
    )


def _translated(scope: Scope, error: HTTPException) -> Exception:
    """The framework's own errors in our words."""
    if isinstance(error, MethodNotAllowedException):
        methods = set((error.headers or {}).get("allow", "").split(", ")) - {""}
        methods |= {"HEAD"} if "GET" in methods else set()
        if scope["tocsin.dialect"] is Dialect.NATIVE:
            return MethodNotAllowed(tuple(sorted(methods)))
        return RouteNotFound()
    if isinstance(error, NotFoundException):
        return RouteNotFound()
    if error.status_code < 500:
        return Invalid("", "the request can't be read")
    return error
