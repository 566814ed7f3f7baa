"""What a user does with the apps of the frameworks, by `requests`, which keeps connections alive.

    clients.py FRAMEWORK ADDRESS

ADDRESS is a URL, or `unix:PATH` for nginx on a socket.
Ends with 0 if every answer was right, else with a traceback that names what was not.
"""

import gzip
import os
import re
import socket
import sys

import requests
import urllib3

HERE = os.path.dirname(os.path.abspath(__file__))


def source(name):
    """A file of the apps, which they also send."""
    with open(os.path.join(HERE, name), "rb") as handle:
        return handle.read()


def check_upload(session, base):
    """A multipart upload that does not fit into any buffer, whole and chunked."""
    data = bytes(range(256)) * 40000
    answer = session.post(base + "/upload", files={"file": ("data.bin", data)})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["size"], answer.json()["total"]) == (len(data), sum(data)), answer.text

    prepared = requests.Request("POST", base + "/upload", files={"file": ("data.bin", data)}).prepare()
    body = prepared.body
    chunks = (body[at:at + 100000] for at in range(0, len(body), 100000))
    answer = session.post(base + "/upload", data=chunks, headers={"Content-Type": prepared.headers["Content-Type"]})
    assert answer.status_code == 200 and answer.json()["size"] == len(data), answer.text


def check_common(session, base, name, parts):
    """What all the apps have: a page, a stream, a file."""
    answer = session.get(base + "/")
    assert (answer.status_code, answer.text) == (200, name + "\n"), answer.text
    answer = session.head(base + "/")
    assert (answer.status_code, answer.content) == (200, b""), answer.content
    answer = session.get(base + "/stream", stream=True)
    lines = [line for line in answer.iter_lines() if line]
    assert len(lines) == parts and lines[-1].startswith(b"part %d" % (parts - 1)), lines
    check_upload(session, base)
    missing = session.get(base + "/no/such/page")
    assert missing.status_code == 404, missing.status_code


def check_flask(session, base):
    """Flask."""
    check_common(session, base, "flask", 5)
    answer = session.get(base + "/json", params={"a": "\u00fc", "b": "1 2"}).json()
    assert answer["args"] == {"a": "\u00fc", "b": "1 2"} and answer["base"] == base + "/json", answer
    answer = session.post(base + "/form", data={"a": ["1", "2"], "b": "x"}).json()
    assert answer == {"a": ["1", "2"], "b": ["x"]}, answer
    packed = gzip.compress(b"anything" * 1000)
    answer = session.post(base + "/raw", data=packed, headers={"Content-Type": "application/gzip"})
    assert answer.content == packed and answer.headers["Content-Type"] == "application/gzip", answer.headers
    assert session.get(base + "/file").content == source("flask_app.py")
    part = session.get(base + "/file", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, source("flask_app.py")[10:20]), part.headers
    tag = session.get(base + "/file").headers["ETag"]
    assert session.get(base + "/file", headers={"If-None-Match": tag}).status_code == 304
    assert session.get(base + "/cookie").text == "never"
    assert session.cookies.get_dict() == {"seen": "once", "other": "two"}, session.cookies
    assert session.get(base + "/cookie").text == "once"
    assert session.get(base + "/missing").status_code == 404
    assert session.get(base + "/fail").status_code == 500


def check_bottle(session, base):
    """Bottle."""
    check_common(session, base, "bottle", 3)
    assert session.get(base + "/hello/w\u00f6rld").json() == {"hello": "w\u00f6rld", "remote": "127.0.0.1"}
    assert session.get(base + "/file").content == source("bottle_app.py")


def check_pyramid(session, base):
    """Pyramid."""
    check_common(session, base, "pyramid", 3)
    answer = session.get(base + "/hello/w\u00f6rld?a=b").json()
    assert answer["hello"] == "w\u00f6rld" and answer["params"] == {"a": "b"}, answer
    assert session.get(base + "/file").content == source("pyramid_app.py")


def check_django(session, base):
    """Django: its admin too, with the database that `migrate` made."""
    check_common(session, base, "django", 5)
    assert session.get(base + "/file").content == source("django_extra.py")
    answer = session.get(base + "/facts/\u00fcml\u00e4ut?a=\u00e4").json()
    assert answer["path"] == "/facts/\u00fcml\u00e4ut" and answer["query"] == {"a": "\u00e4"}, answer
    assert session.get(base + "/facts").json()["host"] == base.split("//")[1]
    assert session.get(base + "/fail").status_code == 500

    page = session.get(base + "/admin/")
    assert page.url.endswith("/admin/login/?next=/admin/"), page.url
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text).group(1)
    form = {"username": "admin", "password": "wrong", "csrfmiddlewaretoken": token, "next": "/admin/"}
    refused = session.post(page.url, data=form, headers={"Referer": page.url})
    assert "Please enter the correct username and password" in refused.text
    form["password"] = "let me in"
    inside = session.post(page.url, data=form, headers={"Referer": page.url})
    assert inside.url == base + "/admin/" and "Site administration" in inside.text, inside.url
    added = session.get(base + "/admin/auth/group/add/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', added.text).group(1)
    form = {"name": "made by the test", "csrfmiddlewaretoken": token, "_save": "Save"}
    listed = session.post(added.url, data=form, headers={"Referer": added.url})
    assert "made by the test" in listed.text and "was added successfully" in listed.text
    out = requests.Session().post(page.url, data=form)
    assert out.status_code == 403, out.status_code


class UnixConnection(urllib3.connection.HTTPConnection):
    """A connection to a unix socket, whatever the URL says."""

    path = None

    def _new_conn(self):
        made = socket.socket(socket.AF_UNIX)
        made.connect(self.path)
        return made


class UnixPool(urllib3.connectionpool.HTTPConnectionPool):
    """A pool of them."""

    ConnectionCls = UnixConnection


class UnixAdapter(requests.adapters.HTTPAdapter):
    """What `requests` needs to use them."""

    pool = None

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        self.pool = self.pool or UnixPool("app.test")
        return self.pool


def main():
    """One framework."""
    framework, base = sys.argv[1:3]
    session = requests.Session()
    session.trust_env = False
    if base.startswith("unix:"):
        UnixConnection.path = base[len("unix:"):]
        base = "http://app.test"
        session.mount(base, UnixAdapter())
    globals()["check_" + framework](session, base)


main()
