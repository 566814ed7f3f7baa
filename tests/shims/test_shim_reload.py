"""The worker ends when its code changes, and says what is wrong with code that does not load."""

import os
import signal
import unittest

from support import Shim, stop, variables

APP = """
import os, time
def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        open("running", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.005)
    start_response("200 OK", [])
    return [b"ok"]
"""


class Reload(unittest.TestCase):
    def start(self, text=APP, engine="auto", app="changing", files=None, **settings):
        settings.update(reload=True, reload_engine=engine)
        shim = Shim(app, dict({"changing.py": text}, **files or {}), settings=settings)
        self.addCleanup(shim.__exit__)
        shim.wait_ready()
        return shim

    def change(self, shim, name="changing.py", text=APP + "\n# changed\n"):
        with open(os.path.join(shim.directory, name), "w") as file:
            file.write(text)

    def changed(self, shim, name):
        self.assertEqual(shim.wait(), 0)
        self.assertIn("[INFO] Worker reloading: %s modified" % os.path.join(shim.directory, name), shim.log())

    def test_each_engine(self):
        for engine in ("auto", "poll", "inotify"):
            shim = self.start(engine=engine)
            self.assertIn("[WARNING] Reloader is on. Use in development only!", shim.log())
            self.assertEqual(shim.get().body, b"ok")
            self.change(shim)
            self.changed(shim, "changing.py")

    def test_the_request_is_finished_first(self):
        shim = self.start()
        id = shim.send(variables(path="/wait"))
        shim.wait_until(lambda: os.path.exists(os.path.join(shim.directory, "running")), "running request")
        self.change(shim)
        shim.wait_for_log("Worker reloading")
        self.change(shim, "go")
        self.assertEqual(shim.take(id).body, b"ok")
        self.assertEqual(shim.wait(), 0)

    def test_files_beside_the_code(self):
        shim = self.start(files={"some.conf": "1"}, reload_extra_files=["some.conf"])
        self.change(shim, "some.conf", "22")
        self.changed(shim, "some.conf")
        shim = self.start(files={"one.html": "1"}, reload_extra_files=["*.html"])
        self.change(shim, "one.html", "22")
        self.changed(shim, "one.html")

    def test_other_files_do_not_matter(self):
        shim = self.start(engine="inotify")
        for number in range(5):
            self.change(shim, "other.log", "x" * number)
        self.assertEqual(shim.get().body, b"ok")
        self.assertEqual(stop(shim), 0)
        self.assertNotIn("modified", shim.log())

    def shows(self, text, cause, app="changing"):
        shim = self.start(text, app=app)
        for _ in range(2):
            answer = shim.get()
            self.assertEqual((answer.status, answer.field("Content-Type")), ("500 Internal Server Error", "text/plain"))
            self.assertIn(cause, answer.body.decode())
        self.assertIn(cause, shim.log())
        self.change(shim)
        self.changed(shim, "changing.py")

    def test_code_that_does_not_load_is_shown_and_watched(self):
        self.shows("def application(:\n", "SyntaxError")
        self.shows("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'")
        self.shows("application = 1 / 0\n", "ZeroDivisionError")
        self.shows("x = 1\n", "Failed to find attribute 'application' in 'changing'.")

    def test_int_while_it_watches(self):
        shim = self.start()
        shim.signal(signal.SIGINT)
        self.assertEqual(shim.wait(), 0)


if __name__ == "__main__":
    unittest.main()
