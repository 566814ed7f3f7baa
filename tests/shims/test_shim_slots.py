"""Workers with more than one slot: threads and, where gevent is installed, greenlets."""

import importlib.util
import os
import select
import signal
import struct
import unittest

from support import Shim, stop, variables

APP = """
import contextvars, os, re, threading, time

both = threading.Barrier(2) if __name__ else None
user = contextvars.ContextVar("user", default="-")
local = threading.local()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/meet":
        both.wait()
    if path == "/wait":
        open("running", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.005)
    if path == "/for-ever":
        open("running", "w").close()
        while True:
            time.sleep(0.005)
    if path == "/keep-the-interpreter":
        open("running", "w").close()
        re.match("(a+)+$", "a" * 40 + "b")
    if path == "/big":
        start_response("200 OK", [])
        return (bytes([65 + n % 26]) * 300000 for n in range(20))
    if path == "/raise":
        raise KeyError("in a thread")
    if path == "/multithread":
        start_response("200 OK", [])
        return [repr(environ["wsgi.multithread"]).encode()]
    if path == "/remember":
        found = "%s %s" % (user.get(), getattr(local, "user", "-"))
        if environ["QUERY_STRING"]:
            local.user = environ["QUERY_STRING"]
            user.set(local.user)
        start_response("200 OK", [])
        return [found.encode()]
    if path == "/end-early":
        gevent = __import__("gevent")
        class Answer(list):
            def close(self):
                raise gevent.GreenletExit
        start_response("200 OK", [])
        return Answer([b"ok"])
    if path == "/fork":
        pid = os.fork()
        status = pid and os.waitpid(pid, 0)[1]
        start_response("200 OK", [])
        return [b"%d" % status]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def cpu_ticks(pid):
    """What the process has used of the processor, in ticks of 10 ms: proc(5), utime and stime."""
    with open("/proc/%d/stat" % pid) as stat:
        return sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))


class Slots:
    """What holds for both kinds. Not collected itself."""

    worker_class = ""

    def start(self, slots=4, **changes):
        shim = Shim("slots", {"slots.py": APP}, worker_class=self.worker_class, slots=slots, **changes)
        self.addCleanup(shim.__exit__)
        self.assertEqual(shim.wait_ready(), slots)
        return shim

    def running(self, shim, path="/wait"):
        id = shim.send(variables(path=path))
        shim.wait_until(lambda: os.path.exists(os.path.join(shim.directory, "running")), "running request")
        return id

    def go(self, shim):
        open(os.path.join(shim.directory, "go"), "w").close()

    def ended(self, shim, ids):
        """Reads until all these have ended."""
        left, answers = set(ids), {}
        while left:
            frame = shim.read_frame()
            self.assertIsNotNone(frame, shim.log())
            answer = shim.answers[frame.id]
            if shim.apply(frame):
                left.discard(frame.id)
                answers[frame.id] = answer
        return answers

    def test_requests_run_at_once(self):
        shim = self.start()
        ids = [shim.send(variables(path="/meet")) for _ in range(2)]
        for answer in self.ended(shim, ids).values():
            self.assertEqual(answer.body, b"ok")
        self.assertEqual(shim.get("/multithread").body, b"True")
        self.assertIn("500", shim.get("/raise").status)
        self.assertEqual(stop(shim), 0)

    def test_frames_are_whole_whoever_writes(self):
        shim = self.start()
        ids = [shim.send(variables(path="/big")) for _ in range(6)]
        expected = b"".join(bytes([65 + n % 26]) * 300000 for n in range(20))
        for answer in self.ended(shim, ids).values():
            self.assertTrue(answer.body == expected)
        self.assertEqual(stop(shim), 0)

    def test_term_waits_for_what_runs(self):
        shim = self.start()
        id = self.running(shim)
        shim.wait_until(lambda: id in list(shim.cells[1:5]), "a cell with the request")
        shim.signal(signal.SIGTERM)
        self.go(shim)
        self.assertEqual(shim.take(id).body, b"ok")
        self.assertEqual(shim.wait(), 0)
        self.assertEqual(list(shim.cells[1:5]), [0] * 4)
        self.assertEqual(shim.log(), "")

    def test_a_message_after_term_is_refused_or_left(self):
        shim = self.start()
        id = self.running(shim)
        shim.signal(signal.SIGTERM)
        others = {shim.send(variables()) for _ in range(8)}
        self.go(shim)
        ended = {}
        while True:
            frame = shim.read_frame()
            if frame is None:
                break
            answer = shim.answers[frame.id]
            if shim.apply(frame):
                ended[frame.id] = answer
        self.assertEqual(shim.wait(), 0)
        self.assertEqual(ended.pop(id).body, b"ok")
        shim.queue_end.setblocking(False)
        left = set()
        try:
            while True:
                left.add(struct.unpack_from("!BBH", shim.queue_end.recv(131072))[2])
        except BlockingIOError:
            pass
        # A message that a thread got at the very end is in neither, and in no cell: the front knows that it was not run.
        self.assertLessEqual(left | set(ended), others)
        for other, answer in ended.items():
            self.assertTrue(answer.refused or answer.body == b"ok", answer)
        self.assertEqual(list(shim.cells[1:5]), [0] * 4)

    def test_a_forked_child_answers_nobody(self):
        shim = self.start()
        self.assertEqual(shim.get("/fork").body, b"0")
        self.assertEqual(stop(shim), 0)

    def test_abort_ends_the_worker_and_shows_all_stacks(self):
        shim = self.start()
        self.running(shim, "/for-ever")
        shim.signal(signal.SIGABRT)
        shim.wait()
        self.assertIn("most recent call first", shim.log())
        if self.worker_class == "gthread":
            self.assertIn("in application\n", shim.log())
            self.assertEqual(shim.process.returncode, 1)

    def test_quit_does_not_wait(self):
        shim = self.start()
        self.running(shim, "/for-ever")
        shim.signal(signal.SIGQUIT)
        self.assertEqual(shim.wait(), 0)

    def test_the_end_of_rgunicorn_is_the_end_of_the_worker(self):
        shim = self.start()
        shim.queue.close()
        self.assertEqual(shim.wait(), 1)
        self.assertEqual(shim.log(), "")


class Threads(Slots, unittest.TestCase):
    worker_class = "gthread"

    def test_what_cannot_be_run_is_left_to_others(self):
        shim = self.start()
        before = cpu_ticks(shim.pid)
        self.running(shim, "/keep-the-interpreter")
        # The file is there before the interpreter is kept: opening it lets other threads run.
        shim.wait_until(lambda: cpu_ticks(shim.pid) > before + 10, "kept interpreter")
        sent = [shim.send(variables()) for _ in range(8)]
        select.select([], [], [], 0.3)  # Time to take one, for a thread that would.
        shim.queue_end.settimeout(0)
        left = [struct.unpack_from("!BBH", shim.queue_end.recv(131072))[2] for _ in sent]
        self.assertEqual(left, sent)

    def test_all_threads_take_their_turn(self):
        shim = self.start()
        for _ in range(3):
            ids = [shim.send(variables(path="/wait")) for _ in range(4)]
            shim.wait_until(lambda: all(shim.cells[1:5]), "all slots at work")
            self.go(shim)
            self.ended(shim, ids)
            os.remove(os.path.join(shim.directory, "go"))
            shim.wait_until(lambda: not any(shim.cells[1:5]), "idle slots")
        self.assertEqual(stop(shim), 0)


@unittest.skipUnless(importlib.util.find_spec("gevent"), "gevent is not installed")
class Greenlets(Slots, unittest.TestCase):
    worker_class = "gevent"

    def test_the_graceful_timeout(self):
        shim = self.start(settings={"graceful_timeout": 0})
        self.running(shim, "/for-ever")
        self.assertEqual(stop(shim), 0)
        self.assertIn("[WARNING] Worker graceful timeout (pid:%d)" % shim.pid, shim.log())

    def test_everything_is_patched(self):
        shim = self.start(slots=100)
        ids = [shim.send(variables(path="/wait")) for _ in range(100)]
        shim.wait_until(lambda: all(shim.cells[1:101]), "all slots at work")
        self.go(shim)
        for answer in self.ended(shim, ids).values():
            self.assertEqual(answer.body, b"ok")

    def test_no_more_than_the_slots(self):
        shim = self.start(slots=2)
        ids = [shim.send(variables(path="/wait")) for _ in range(5)]
        shim.wait_until(lambda: all(shim.cells[1:3]), "all slots at work")
        self.go(shim)
        self.ended(shim, ids)
        self.assertEqual(list(shim.cells[3:8]), [0] * 5)

    def test_what_one_request_leaves_in_its_greenlet_is_not_seen_by_the_next(self):
        shim = self.start()
        for query in ("alice", "", "", "bob", ""):
            self.assertEqual(shim.get("/remember", query).body, b"- -")

    def test_a_greenlet_that_ends_early_costs_no_slot(self):
        shim = self.start(slots=2)
        for _ in range(5):
            self.assertEqual(shim.get("/end-early").body, b"ok")
        self.assertEqual(shim.get("/").body, b"ok")


if __name__ == "__main__":
    unittest.main()
