"""The classes of requests, as names for annotations and tests of type."""

from rgunicorn.hookview import Request

Message = Request
