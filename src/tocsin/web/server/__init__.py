"""The HTTP server inside the process: uvicorn, with bounds on what a stranger may hold open."""

from tocsin.web.server.bounds import Bounds
from tocsin.web.server.run import HttpServer

__all__ = ["Bounds", "HttpServer"]
