"""Gunicorn's exceptions about requests, for code that names them. Nothing here raises them."""


class ParseException(Exception):
    pass


class NoMoreData(OSError):
    pass


class InvalidChunkSize(OSError):
    pass


class ChunkMissingTerminator(OSError):
    pass


class InvalidChunkExtension(OSError):
    pass


class ConfigurationProblem(ParseException):
    code = 500


class InvalidRequestLine(ParseException):
    code = 400


class InvalidRequestMethod(ParseException):
    pass


class ExpectationFailed(ParseException):
    pass


class InvalidHTTPVersion(ParseException):
    pass


class InvalidHeader(ParseException):
    pass


class ObsoleteFolding(ParseException):
    pass


class InvalidHeaderName(ParseException):
    pass


class UnsupportedTransferCoding(ParseException):
    code = 501


class LimitRequestLine(ParseException):
    pass


class LimitRequestHeaders(ParseException):
    pass


class InvalidProxyLine(ParseException):
    code = 400


class InvalidProxyHeader(ParseException):
    code = 400


class ForbiddenProxyRequest(ParseException):
    code = 403


class InvalidSchemeHeaders(ParseException):
    pass
