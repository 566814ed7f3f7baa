"""A Pyramid app: routes, JSON, a file, a view that fails."""

from pyramid.config import Configurator
from pyramid.response import FileResponse, Response


def index(request):
    return Response("pyramid\n")


def hello(request):
    return {"hello": request.matchdict["name"], "url": request.url, "params": dict(request.params)}


def upload(request):
    data = request.POST["file"].file.read()
    return {"size": len(data), "total": sum(data)}


def give_file(request):
    return FileResponse(__file__, request=request)


def stream(request):
    return Response(app_iter=(b"part %d\n" % number for number in range(3)), content_type="text/plain")


def make(greeting="unused"):
    """The app, for `pyramid_app:make()`."""
    with Configurator() as config:
        for name, path, view, renderer in [
            ("index", "/", index, None),
            ("hello", "/hello/{name}", hello, "json"),
            ("upload", "/upload", upload, "json"),
            ("file", "/file", give_file, None),
            ("stream", "/stream", stream, None),
        ]:
            config.add_route(name, path)
            config.add_view(view, route_name=name, renderer=renderer)
        return config.make_wsgi_app()
