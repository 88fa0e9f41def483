"""When a task must have ended: the deadline of a context, and tasks that are over before they begin."""

import datetime
import sys
import time
import unittest

from harness import SDK, ChildCase, request

sys.path.insert(0, SDK)
from runqy._deadline import effective_deadline, from_unix  # noqa: E402


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat()


class Effective(unittest.TestCase):
    def test_is_that_of_asynq(self):
        for deadline, timeout, now, want in (
            (None, None, 1000.5, None),
            (None, 0, 1000.5, None),
            (None, 30, 1000.5, 1030.5),
            (None, 1.5, 1000.5, 1002.0),
            (None, -30, 1000.5, 970.5),
            (2000, None, 1000.5, 2000),
            (2000, 0, 1000.5, 2000),
            (2000, 30, 1000.5, 1030),  # from the last full second
            (1010, 30, 1000.5, 1010),
            (2000, -30, 1000.5, 970),
            (900, 30, 1000.5, 900),
            (2000, 1 << 62, 1000.5, 2000),
            (-5, 30, 1000.5, -5),
        ):
            with self.subTest(deadline=deadline, timeout=timeout):
                text = None if deadline is None else rfc3339(deadline)
                self.assertEqual(effective_deadline(text, timeout, now), want)

    def test_what_cannot_be_read_does_not_count(self):
        for timeout in ("30", True, [30], {}, float("nan"), float("inf"), 10**400):
            with self.subTest(timeout=timeout):
                self.assertIsNone(effective_deadline(None, timeout, 1000.5))
        for deadline in ("soon", "", 5, ["2030-01-01T00:00:00Z"], "9999-99-99T00:00:00Z"):
            with self.subTest(deadline=deadline):
                self.assertIsNone(effective_deadline(deadline, None, 1000.5))
                self.assertEqual(effective_deadline(deadline, 30, 1000.5), 1030.5)

    def test_the_last_time_that_there_is(self):
        self.assertEqual(from_unix(1000.25).isoformat(), "1970-01-01T00:16:40.250000+00:00")
        self.assertEqual(from_unix(float(1 << 62)).year, 9999)


class Deadlines(ChildCase):
    KINDS = ("def", "async def")

    def test_counts_from_the_begin(self):
        for kind in self.KINDS:
            with self.subTest(kind):
                child = self.start(
                    f"import time\n@task\n{kind} t(p, ctx):\n"
                    "    return [time.time(), ctx.deadline.timestamp(), ctx.deadline.utcoffset().total_seconds(), "
                    "ctx.remaining()]"
                )
                before = time.time()
                reply = child.ask("1", timeout=100, deadline=None)
                now, deadline, offset, remaining = reply["result"]
                # A datetime holds microseconds.
                self.assertTrue(before + 100 - 1e-5 <= deadline <= now + 100 + 1e-5, (before, deadline, now))
                self.assertEqual(offset, 0)
                self.assertLessEqual(remaining, 100)

    def test_of_timeout_and_deadline_the_earlier(self):
        child = self.start("@task\ndef t(p, ctx): return ctx.deadline.isoformat()")
        early = rfc3339(int(time.time()) + 50)
        self.assertDone(child.ask("1", timeout=100, deadline=early), early)
        before = int(time.time())
        reply = child.ask("2", timeout=10, deadline=early)
        deadline = datetime.datetime.fromisoformat(reply["result"]).timestamp()
        self.assertTrue(before + 10 <= deadline <= time.time() + 10, (before, deadline))
        self.assertEqual(deadline, int(deadline), "from a full second")

    def test_over_before_the_task_begins(self):
        for kind in self.KINDS:
            child = self.start(f"@task\n{kind} t(p): print('ran'); return 'ran'")
            for fields in (
                {"deadline": "2020-01-01T00:00:00Z"},
                {"deadline": "2020-01-01T00:00:00Z", "timeout": 30},
                {"deadline": "2999-01-01T00:00:00Z", "timeout": -1},
                {"timeout": -1},
            ):
                with self.subTest(kind, fields=fields):
                    reply = child.ask("1", **fields)
                    self.assertFailed(
                        reply, "^DeadlineExceeded: context deadline exceeded before the task began$", retry=True
                    )
                    self.assertNotIn("seconds", reply)
            for fields in ({"deadline": "2999-01-01T00:00:00Z"}, {"timeout": 60}, {"timeout": 0}, {"deadline": "soon"}):
                with self.subTest(kind, fields=fields):
                    self.assertDone(child.ask("2", **fields), "ran")
            self.assertEnds(child)
            self.assertEqual(child.stderr.count("ran"), 4, "number of tasks that ran")

    def test_over_while_it_waits(self):
        # The first task ends when the deadline of the second is over; the timeout of the third has not begun to count.
        child = self.start(
            "import time\n@task\ndef t(p):\n    while time.time() < p: time.sleep(0.01)\n    return 'ran'"
        )
        over = int(time.time()) + 2
        child.send(request("1", payload=over), request("2", payload=0, deadline=rfc3339(over)))
        child.send(request("3", payload=0, timeout=1))
        self.assertDone(child.receive(), "ran")
        self.assertFailed(child.receive(), "^DeadlineExceeded: ")
        self.assertDone(child.receive(), "ran")


if __name__ == "__main__":
    unittest.main()
