"""How the process ends: end of input, a worker that is gone, a crash, Ctrl-C."""

import contextlib
import json
import signal
import subprocess
import sys
import unittest

from harness import TIMEOUT, Child, ChildCase, environment, request


class Lifetime(ChildCase):
    def test_end_of_input_finishes_what_was_read(self):
        child = self.start("import time\n@task\ndef t(p): time.sleep(0.01); return p")
        child.raw(b"".join(json.dumps(request(str(n), payload=n)).encode() + b"\n" for n in range(20))[:-1])
        self.assertEnds(child)
        self.assertEqual([child.receive()["result"] for _ in range(20)], list(range(20)))

    def test_code_after_run_is_reached(self):
        child = Child("from runqy import run, task\n@task\ndef t(p): pass\nrun()\nprint('after')\n")
        self.addCleanup(child.kill)
        child.ready()
        self.assertEnds(child)
        self.assertInStderr("after", child)

    @contextlib.contextmanager
    def gone(self, source):
        """Runs a task file whose worker stops reading after the ready line; it must end, silently, by itself."""
        process = subprocess.Popen(
            [sys.executable, "-c", self.HEAD + source + "\nrun()\n"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
        )
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        with process.stdout:
            while b'"ready"' not in process.stdout.readline():
                pass
        yield process
        with process.stderr:
            noise = process.stderr.read()
        self.assertEqual((process.wait(TIMEOUT), noise), (0, b""))

    def test_worker_gone(self):
        for source in (
            "@task\ndef t(p): return 1",
            "@task\nasync def t(p): return 1",
            "@task('t')\nasync def t(p): return 1\n@task\ndef u(p): pass",
            "@task('u')\nasync def u(p): return 1\n@task\ndef t(p): pass",
        ):
            for line in (request("1"), {"ping": 1}):
                with self.subTest(source=source, line=line):
                    with self.gone(source) as process:
                        process.stdin.write(json.dumps(line).encode() + b"\n")
                        # Standard input stays open: the failed write alone must end it.

    def test_crash_in_c_code_leaves_a_trace(self):
        child = self.start("import ctypes\ndef deep(): ctypes.string_at(0)\n@task\ndef t(p): deep()")
        child.task("1")
        self.assertExits(child, -signal.SIGSEGV)
        self.assertInStderr("Fatal Python error: Segmentation fault", child)
        self.assertInStderr("in deep", child)

    def test_sigint_between_tasks_ends_it(self):
        child = self.start("@task\ndef t(p): return 1")
        self.assertDone(child.ask("1"), 1)
        child.process.send_signal(signal.SIGINT)
        self.assertExits(child, 130)
        self.assertNotInStderr("Traceback", child)

    def assertLeaves(self, child, why):
        """The child's output ends although the process lives on."""
        self.assertIsNone(child.lines.get(timeout=TIMEOUT), "a line after run() was left")
        child.wait_stderr(why)
        self.assertIsNone(child.process.poll(), "exit status; the leaked thread should keep it alive")

    def test_sigint_beside_a_thread_that_never_ends(self):
        for kinds in (("@task\ndef", ""), ("@task\nasync def", ""), ("@task\ndef", "@task('a')\nasync def a(p): pass")):
            with self.subTest(kinds):
                source = f"""
import threading
{kinds[0]} t(p): threading.Thread(target=threading.Event().wait).start()
{kinds[1]}
"""
                child = self.start(source)
                self.assertDone(child.ask("1"), None)
                child.process.send_signal(signal.SIGINT)
                self.assertLeaves(child, "SIGINT ended run()")

    def test_late_exception_beside_a_thread_that_never_ends(self):
        child = self.start(
            """
            import signal, threading
            class Late(Exception): pass
            def late(number, frame): raise Late("too late for the handler that set the alarm")
            signal.signal(signal.SIGALRM, late)
            @task
            def t(p):
                threading.Thread(target=threading.Event().wait).start()
                signal.setitimer(signal.ITIMER_REAL, 0.05)
            """
        )
        child.task("1")  # the alarm comes before or after the answer; either way none is left to run a task
        child.wait_stderr("Late: too late")
        while child.lines.get(timeout=TIMEOUT) is not None:
            pass
        self.assertIsNone(child.process.poll(), "exit status; the leaked thread should keep it alive")

    def test_main_thread_in_the_pong(self):
        child = self.start("@task\ndef t(p): pass")
        child.send({"ping": 1})
        self.assertIs(child.receive()["main"], True)

    def test_main_thread_that_ends_without_leaving_run(self):
        # As when an exception strikes in the clean-up of run().
        child = self.start(
            """
            import threading
            from runqy import _runtime
            def interrupted(app): raise KeyboardInterrupt
            _runtime.App.left = interrupted
            @task
            def t(p): threading.Thread(target=threading.Event().wait).start()
            """
        )
        self.assertDone(child.ask("1"), None)
        child.process.send_signal(signal.SIGINT)
        child.wait_stderr("KeyboardInterrupt")
        while True:
            child.send({"ping": 1})
            if not child.receive()["main"]:  # comes once the interpreter has begun to end
                break

    def test_slow_task_does_not_hold_back_the_reply_before_it(self):
        child = self.start(
            """
            import threading
            go = threading.Event()
            @task("quick")
            def quick(p): return p
            @task("wait")
            def wait(p):
                go.wait()
            @task("fast-then-slow")
            def sometimes(p):
                if p: go.wait()
                return p
            """
        )
        # Both in one write, so that the second waits in the queue when the first is done.
        child.send(
            request("1", "quick", "a"),
            request("2", "fast-then-slow", False),
            request("3", "fast-then-slow", False),
            request("4", "fast-then-slow", True),
            request("5", "quick"),
        )
        self.assertEqual([child.receive()["task_id"] for _ in range(3)], ["1", "2", "3"])


if __name__ == "__main__":
    unittest.main()
