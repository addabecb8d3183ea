"""The HTTP server inside the process: uvicorn, with bounds on what a stranger may hold open."""

from tocsin.web.server.bounds import Bounds
from tocsin.web.server.run import Application, HttpServer

__all__ = ["Application", "Bounds", "HttpServer"]
