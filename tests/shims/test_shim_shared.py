"""Large bodies: by way of blocks of memory that the worker shares, and that come back to it."""

import importlib.util
import os
import select
import unittest

from support import ABORT, END, FD, SHARED, Shim, variables

APP = """
import os

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/list":
        start_response("200 OK", [])
        return [bytes([65 + n]) * int(size) for n, size in enumerate(query.split(","))]
    if path == "/length":
        start_response("200 OK", [("Content-Length", "3000000")])
        return [b"x" * 2999999]
    if path == "/pieces":
        start_response("200 OK", [])
        return (bytes([65 + n % 26]) * int(size) for n, size in enumerate(query.split(",")))
    if path == "/fork":
        start_response("200 OK", [])
        if os.fork() == 0:
            return [b"child" * 100000]
        os.wait()
        return [b"parent" * 100000]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

MIB = 1 << 20


class Sharing:
    """What holds for all kinds of workers. Not collected itself."""

    worker_class = "sync"

    def start(self, **changes):
        shim = Shim("sharing", {"sharing.py": APP}, worker_class=self.worker_class, **changes)
        self.addCleanup(shim.__exit__)
        shim.wait_ready()
        return shim

    def test_lists_have_a_length_and_are_cut_into_blocks(self):
        shim = self.start()
        for sizes in ([131072], [MIB], [MIB + 1], [100000, 100000, 0, 3 * MIB, 5], [70000, 70000]):
            answer = shim.get("/list", ",".join(map(str, sizes)))
            expected = b"".join(bytes([65 + n]) * size for n, size in enumerate(sizes))
            self.assertTrue(answer.body == expected, sizes)
            self.assertEqual(answer.field("content-length"), str(sum(sizes)))
            self.assertEqual([length for _, length in answer.shared], self.blocks(sum(sizes)))
        # Smaller ones go over the channel.
        answer = shim.get("/list", "131071")
        self.assertEqual((len(answer.body), answer.shared, answer.frames), (131071, [], 1))

    def blocks(self, size):
        return [MIB] * (size // MIB) + [size % MIB] * bool(size % MIB)

    def test_pieces_are_sent_as_they_come(self):
        shim = self.start()
        answer = shim.get("/pieces", "5,200000,5,2000000,131071,0,131072")
        expected = zip((5, 200000, 5, 2000000, 131071, 0, 131072), b"ABCDEFG")
        self.assertTrue(answer.body == b"".join(bytes([letter]) * size for size, letter in expected))
        self.assertEqual([length for _, length in answer.shared], [200000, MIB, 2000000 - MIB, 131072])
        self.assertIsNone(answer.field("content-length"))
        # The two blocks are used in turn: neither is written to while it is read.
        answer = shim.get("/pieces", ",".join(["200000"] * 40))
        self.assertEqual({offset for offset, _ in answer.shared}, {0, MIB})

    def test_no_block_is_written_to_before_it_comes_back(self):
        shim = self.start()
        shim.gives_back = False
        id = shim.send(variables(path="/pieces", query="200000,300000,400000,500000"))
        answer = shim.answers[id]
        for _ in range(2):
            self.assertFalse(shim.apply(shim.read_frame()))
        (first, _), (second, _) = answer.shared
        self.assertNotEqual(first, second)
        self.assertEqual(select.select([shim.channel], [], [], 0.2)[0], [], "it waits")
        shim.give_back(second)
        self.assertFalse(shim.apply(shim.read_frame()))
        self.assertEqual(answer.shared[2:], [(second, 400000)])
        shim.gives_back = True
        for offset in (first, second):
            shim.give_back(offset)
        shim.take(id)
        self.assertEqual([length for _, length in answer.shared], [200000, 300000, 400000, 500000])
        # What comes back twice is there once, and what never was a block is none.
        shim.gives_back = False
        for offset in (first, first, second, 77, 1 << 63):
            shim.give_back(offset)
        id = shim.send(variables(path="/pieces", query="200000,200000,200000"))
        for _ in range(2):
            shim.apply(shim.read_frame())
        self.assertEqual({offset for offset, _ in shim.answers[id].shared}, {0, MIB})

    def test_a_wait_ends_when_the_client_or_the_front_leaves(self):
        shim = self.start()
        shim.gives_back = False
        id = shim.send(variables(path="/list", query="5000000"))
        for _ in range(2):
            self.assertFalse(shim.apply(shim.read_frame()))
        shim.send_abort(id)
        for offset in (0, MIB):
            shim.give_back(offset)
        frame = shim.read_frame()
        while frame.kind != ABORT:
            self.assertEqual((frame.flags & (FD | SHARED), frame.flags & END), (FD | SHARED, 0))
            os.close(frame.fds[0])
            frame = shim.read_frame()
        self.assertEqual(frame.id, id)
        del shim.answers[id]
        for offset in (0, MIB):
            shim.give_back(offset)
        self.assertEqual(shim.get().body, b"ok")
        shim.send(variables(path="/list", query="5000000"))
        for _ in range(2):
            shim.apply(shim.read_frame())
        shim.channel.close()
        shim.queue.close()
        shim.queue_end.close()
        self.assertEqual(shim.wait(), 1)

    def test_too_little_is_cut_as_ever(self):
        shim = self.start()
        answer = shim.get("/length")
        self.assertTrue(answer.aborted)
        self.assertEqual(len(answer.body), 2999999)
        self.assertEqual(shim.request("HEAD", "/list", "300000").status, "200 OK")

    def test_children_of_the_app_share_nothing(self):
        shim = self.start()
        self.assertTrue(shim.get("/fork").body == b"parent" * 100000)
        self.assertTrue(shim.get("/fork").body == b"parent" * 100000)


class Sync(Sharing, unittest.TestCase):
    worker_class = "sync"


class Threads(Sharing, unittest.TestCase):
    worker_class = "gthread"

    def start(self):
        return super().start(slots=4)


@unittest.skipUnless(importlib.util.find_spec("gevent"), "gevent is not installed")
class Greenlets(Sharing, unittest.TestCase):
    worker_class = "gevent"

    def start(self):
        return super().start(slots=10)


if __name__ == "__main__":
    unittest.main()
