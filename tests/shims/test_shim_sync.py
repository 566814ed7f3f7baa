"""A worker with one slot, from READY to its exit."""

import signal
import unittest

from support import Shim, stop

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [b"Hello, World!\\n"]
"""


class Serving(unittest.TestCase):
    def test_hello(self):
        with Shim("hello", {"hello.py": HELLO}) as shim:
            self.assertEqual(shim.wait_ready(), 1)
            for _ in range(3):
                answer = shim.get()
                self.assertEqual(answer.status, "200 OK")
                self.assertEqual(answer.body, b"Hello, World!\n")
                self.assertEqual(answer.frames, 1)
            self.assertEqual(stop(shim), 0)
            self.assertEqual(shim.log(), "")
            first, last = shim.whole_log().splitlines()
            self.assertTrue(first.endswith("[INFO] Booting worker with pid: %d" % shim.pid), first)
            self.assertTrue(last.endswith("[INFO] Worker exiting (pid: %d)" % shim.pid), last)


if __name__ == "__main__":
    unittest.main()
