"""`wsgi.input`, wherever the body is: in the message, in a file, or begun in one and ended in the other."""

import io
import os
import random
import struct
import tempfile
import unittest

from support import Shim, stop, variables

from rgunicorn.request import Environs, descriptor

ECHO = """
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Long", str(len(environ.get("HTTP_X_LONG", ""))))])
    return [body]
"""


def environ_of(block, body, cut):
    """The environ of a message that ends after `cut` bytes of block and body, a file holding the rest."""
    whole = bytes(12) + block + body
    count = 12 + cut
    if cut == len(block) + len(body):
        return Environs({}).from_message(memoryview(bytearray(whole)), count, len(block))
    with tempfile.TemporaryFile() as file:
        file.write(whole[count:])
        file.flush()
        fd = os.dup(file.fileno())
    # What follows in a buffer that is used again and again must not matter.
    buffer = bytearray(whole[:count]) + b"\xff" * 50
    return Environs({}).from_file(memoryview(buffer), count, len(block), fd)


class Inputs(unittest.TestCase):
    def test_they_all_read_like_a_file(self):
        for seed in range(150):
            chance = random.Random(seed)
            size = chance.choice([0, 1, 7, 100, 70000, 200000])
            body = bytes(chance.choice(b"ab\n") for _ in range(min(size, 3000))) * (1 + size // 3000)
            block = b"NAME\0value\0OTHER\0" + b"x" * chance.choice([0, 10, 5000]) + b"\0"
            whole = len(block) + len(body)
            cut = chance.choice([whole, len(block), chance.randint(0, whole)])
            environ = environ_of(block, body, cut)
            with self.subTest(seed=seed, cut=cut), environ["wsgi.input"] as given:
                self.assertEqual(environ["NAME"], "value")
                self.assertEqual(len(environ["OTHER"]), len(block) - 18)
                self.compare(given, io.BytesIO(body), chance)

    def compare(self, given, expected, chance):
        for _ in range(chance.randint(0, 12)):
            name = chance.choice(["read", "readline", "readlines", "readinto", "next"])
            size = chance.choice([0, 1, 2, 100, 65536, 100000])
            if name == "next":
                self.same(next(given, b""), next(expected, b""))
            elif name == "readlines":
                # Where it stops is a hint.
                lines = given.readlines(size or 1)
                self.same(lines, [expected.readline() for _ in lines])
            elif name == "readinto":
                ours, theirs = bytearray(size), bytearray(size)
                self.same((given.readinto(ours), ours), (expected.readinto(theirs), theirs))
            else:
                self.same(getattr(given, name)(size), getattr(expected, name)(size))
        self.same(list(given), list(expected))
        for read in (given.read, given.readline):
            self.same((read(), read(5)), (b"", b""))

    def same(self, given, expected):
        self.assertTrue(given == expected)  # A comparison of long bodies, line by line, would take minutes.

    def test_a_file_that_is_too_short(self):
        with tempfile.TemporaryFile() as file:
            with self.assertRaises(EOFError):
                Environs({}).from_file(memoryview(bytes(20)), 20, 100, os.dup(file.fileno()))

    def test_a_descriptor_that_did_not_arrive(self):
        self.assertIsNone(descriptor(1, []))
        self.assertEqual(descriptor(3, [(1, 1, struct.pack("=i", 17))]), 17)
        with self.assertRaises(OSError):
            descriptor(3, [])


class Messages(unittest.TestCase):
    """The same from end to end."""

    def test_wherever_the_message_ends(self):
        with Shim("echo", {"echo.py": ECHO}) as shim:
            shim.wait_ready()
            body = bytes(range(256)) * 1000
            for length, cuts in ((10, (0, 20, 200, 2000, 120000)), (150000, (0, 5000, 120000))):
                for cut in cuts:
                    request = variables("POST", HTTP_X_LONG="x" * length)
                    answer = shim.take(shim.send_cut(request, body, 4 + cut))
                    self.assertTrue(answer.body == body, (length, cut))
                    self.assertEqual(answer.field("X-Long"), str(length))
            for size in (0, 1, 65536, 120000):
                self.assertTrue(shim.request("POST", body=body[:size]).body == body[:size])
            self.assertEqual(stop(shim), 0)


if __name__ == "__main__":
    unittest.main()
