"""The application class of the `gunicorn` command, as a name."""

from gunicorn.app.base import Application
from gunicorn.util import import_app


class WSGIApplication(Application):
    app_uri = None

    def load_wsgiapp(self):
        return import_app(self.app_uri or self.cfg.wsgi_app)

    def load(self):
        return self.load_wsgiapp()


def run(prog=None):
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
