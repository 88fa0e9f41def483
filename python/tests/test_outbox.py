"""The outbox by itself: code that interrupts a thread in the middle of a write, and reports from there."""

import os
import queue
import signal
import sys
import threading
import time
import unittest
from unittest import mock

from harness import SDK, TIMEOUT

sys.path.insert(0, SDK)
from runqy import _outbox  # noqa: E402


class RecordingChannel:
    """Keeps the lines that are written. Calls on_write in each write, before it returns."""

    def __init__(self):
        self.lines = []
        self.on_write = lambda: None

    def write(self, data):
        self.lines += data.splitlines(keepends=True)
        self.on_write()


class InterruptedLock:
    """A lock whose first wait is interrupted by SIGUSR1."""

    def __init__(self, lock):
        self._lock = lock
        self.release = lock.release
        self.interrupted = False

    def acquire(self, blocking=True, timeout=-1):
        if timeout > 0 and not self.interrupted:
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGUSR1)
        return self._lock.acquire(blocking, timeout)

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *exc):
        self._lock.release()


class Holding(unittest.TestCase):
    def test_nothing_is_lost_between_threads(self):
        channel = RecordingChannel()
        outbox = _outbox.Outbox(channel)
        count = 20000

        def hold(name):
            for number in range(count):
                outbox.hold(b"%d %d\n" % (name, number), time.monotonic())
                if number % 1000 == name:
                    outbox.send(b"sent\n")

        threads = [threading.Thread(target=hold, args=(name,), daemon=True) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        outbox.flush()
        self.assertEqual(channel.lines.count(b"sent\n"), 3 * count // 1000)
        for name in range(3):
            mine = [line for line in channel.lines if line.startswith(b"%d " % name)]
            self.assertEqual(mine, [b"%d %d\n" % (name, number) for number in range(count)], f"lines of thread {name}")

    def test_send_returns_when_its_line_is_written(self):
        # Another thread takes the line along before send has the lock. A handler may end the process next.
        channel = RecordingChannel()
        outbox = _outbox.Outbox(channel)
        writing, sent = threading.Event(), threading.Event()
        seen = []

        def on_write():
            writing.set()
            seen.append(sent.wait(0.3))

        class Taken(list):
            def append(self, line):
                super().append(line)
                threading.Thread(target=outbox.flush, daemon=True).start()
                writing.wait(TIMEOUT)

        channel.on_write = on_write
        outbox.held = Taken()
        outbox.send(b"line\n")
        sent.set()
        outbox.flush()
        self.assertEqual((channel.lines, seen), ([b"line\n"], [False]), "lines, and whether send had returned before")

    def test_what_is_held_is_written_by_itself(self):
        # Again and again: the thread that writes it goes to sleep in between.
        channel = RecordingChannel()
        written = queue.SimpleQueue()
        channel.on_write = lambda: written.put(len(channel.lines))
        outbox = _outbox.Outbox(channel)
        for number in range(1, 51):
            outbox.hold(b"line\n", time.monotonic())
            self.assertEqual(written.get(timeout=TIMEOUT), number, "number of lines written")


class Reentrancy(unittest.TestCase):
    def setUp(self):
        self.channel = RecordingChannel()
        self.outbox = _outbox.Outbox(self.channel)

    def report(self, line):
        self.outbox.add_report(line)
        self.outbox.write_reports()

    def test_a_report_in_the_middle_of_a_write_follows_it(self):
        depths = []

        def interrupt():
            depths.append(len(depths))
            if len(depths) <= 100:
                self.report(b"report %d\n" % len(depths))

        for name, write in (("send", self.outbox.send), ("report", self.report)):
            with self.subTest(name):
                del depths[:], self.channel.lines[:]
                self.channel.on_write = interrupt
                write(b"first\n")
                want = [b"first\n"] + [b"report %d\n" % number for number in range(1, 101)]
                self.assertEqual(self.channel.lines, want, "each line once and in order")

    def test_a_report_does_not_wait_inside_another_that_waits(self):
        # As in a program whose timer fires while the pipe is full: the main thread waits in write_reports for another
        # thread's write, and a signal handler on the main thread calls write_reports too. If that call waited as well,
        # the next signal would interrupt it, and so on, until the stack overflows.
        writing, handled = threading.Event(), threading.Event()
        waited = []

        def full_pipe():
            self.channel.on_write = lambda: None
            writing.set()
            waited.append(handled.wait(TIMEOUT))

        def on_signal(signum, frame):
            self.report(b"from the signal handler\n")
            handled.set()

        previous = signal.signal(signal.SIGUSR1, on_signal)
        self.addCleanup(signal.signal, signal.SIGUSR1, previous)
        self.channel.on_write = full_pipe
        writer = threading.Thread(target=self.outbox.send, args=(b"reply\n",), daemon=True)
        writer.start()
        self.assertTrue(writing.wait(TIMEOUT), "the other thread did not begin its write")
        lock = InterruptedLock(self.outbox._lock)
        with mock.patch.object(self.outbox, "_lock", lock), mock.patch.object(_outbox, "_WRITE_TIMEOUT", 2 * TIMEOUT):
            self.report(b"from the main thread\n")
        writer.join(TIMEOUT)
        self.assertTrue(lock.interrupted, "no signal came while the main thread waited")
        self.assertEqual(waited, [True], "the signal handler returned only after the other thread's write had ended")
        want = [b"reply\n", b"from the main thread\n", b"from the signal handler\n"]
        self.assertEqual(self.channel.lines, want, "each line once and in order")


if __name__ == "__main__":
    unittest.main()
