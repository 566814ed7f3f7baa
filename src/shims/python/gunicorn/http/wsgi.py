"""The class of responses, as a name for annotations and tests of type."""

from rgunicorn.hookview import Response

__all__ = ["Response"]
