"""progress() and log: which reports and lines are sent, and when."""

import contextlib
import io
import logging
import sys
import unittest

from harness import SDK, ChildCase

sys.path.insert(0, SDK)
import runqy  # noqa: E402


class ReportCase(ChildCase):
    HEAD = (
        ChildCase.HEAD
        + "import contextvars, logging, os, signal, threading, time, runqy\n"
        + "from runqy import LogHandler, log, progress\n"
    )

    def until_reply(self, child, task_id):
        """What came before the task's reply, as (progress, log), and the reply."""
        reports, lines = [], []
        while True:
            message = child.receive()
            if message.get("task_id") == task_id:
                return reports, lines, message
            if "progress" in message:
                reports.append(message["progress"])
            elif "log" in message:
                lines.append(message["log"])

    def run_task(self, child, task_id="1", kind="t", payload=None):
        child.task(task_id, kind, payload)
        return self.until_reply(child, task_id)


class Progress(ReportCase):
    def test_first_and_last_are_sent(self):
        for kind in ("def", "async def"):
            with self.subTest(kind):
                child = self.start(f"@task\n{kind} t(p):\n  for i in range(5): progress(i / 4, f'step {{i}}')\n")
                reports, _, reply = self.run_task(child)
                self.assertDone(reply, None)
                self.assertEqual(reports[0], {"task_id": "1", "fraction": 0.0, "message": "step 0"})
                self.assertEqual(reports[-1], {"task_id": "1", "fraction": 1.0, "message": "step 4"})
                self.assertEnds(child)

    def test_a_million_reports(self):
        child = self.start(
            """
            @task
            def t(p):
                begun = time.monotonic()
                for i in range(1000000): progress(i / 999999)
                return time.monotonic() - begun
            """
        )
        reports, _, reply = self.run_task(child)
        took = reply["result"]
        # Ten a second, and some more on a machine so busy that time passes between two reads of the clock.
        self.assertLessEqual(len(reports), took * 20 + 20, f"number of reports in {took:.1f} s")
        self.assertEqual((reports[0]["fraction"], reports[-1]["fraction"]), (0, 1))

    def test_a_merged_report_does_not_wait_for_the_end(self):
        path = self.fifo()
        child = self.start(
            "@task\ndef t(p):\n  progress(0.1); progress(0.2, 'x'); progress(None, 'y'); open(p).close()\n"
        )
        child.task("1", payload=path)
        self.assertEqual(child.receive()["progress"]["fraction"], 0.1)
        message = {}
        while message.get("message") != "y":  # on a slow machine each of them may leave by itself
            message = child.receive()["progress"]
        self.assertIn(message.get("fraction"), (0.2, None))
        open(path, "w").close()
        self.assertDone(child.receive(), None)

    def test_odd_values(self):
        child = self.start(
            """
            class Share:
                def __float__(self): return 0.75
            VALUES = {"nan": float("nan"), "inf": float("inf"), "-1": -1, "huge": 10 ** 400, "-huge": -10 ** 400,
                      "none": None, "share": Share(), "true": True, "text": "0.5", "list": [1]}
            @task
            def t(p): progress(VALUES[p], 'm' * 300 if p == "share" else 5)
            """
        )
        for name, want in (
            ("nan", None),
            ("inf", 1),
            ("-1", 0),
            ("huge", 1),
            ("-huge", 0),
            ("none", None),
            ("share", 0.75),
            ("true", 1),
        ):
            with self.subTest(name):
                reports, _, reply = self.run_task(child, payload=name)
                self.assertDone(reply, None)
                message = "m" * 200 if name == "share" else "5"
                wanted = (
                    {"task_id": "1", "message": message}
                    if want is None
                    else {"task_id": "1", "fraction": want, "message": message}
                )
                self.assertEqual(reports, [wanted])
        for name in ("text", "list"):
            reports, _, reply = self.run_task(child, payload=name)
            self.assertEqual(reports, [])
            self.assertFailed(reply, "^TypeError: ")

    def test_which_task_is_meant(self):
        child = self.start(
            """
            import asyncio
            left = None
            @task("a")
            async def a(p):
                async def part(): progress(0.5, p)
                await asyncio.gather(part(), asyncio.sleep(0.01))
            @task("thread")
            def thread(p, ctx):
                def run(*calls):
                    for call in calls:
                        t = threading.Thread(target=call); t.start(); t.join()
                copied = contextvars.copy_context()
                run(lambda: progress(0.1, "lost"), lambda: copied.run(progress, 0.2, "copied"))
                time.sleep(0.15)
                run(lambda: ctx.progress(0.3, "by its context"))
                global left
                left = ctx
            @task("after")
            def after(p): left.progress(0.9, "too late")
            """
        )
        child.task("1", "a", "one")
        child.task("2", "a", "two")
        messages = [child.receive() for _ in range(4)]
        messages = {m["progress"]["task_id"]: m["progress"]["message"] for m in messages if "progress" in m}
        self.assertEqual(messages, {"1": "one", "2": "two"})
        reports, _, reply = self.run_task(child, "3", "thread")
        self.assertEqual([(r["task_id"], r["message"]) for r in reports], [("3", "copied"), ("3", "by its context")])
        self.assertEqual(self.run_task(child, "4", "after")[0], [])

    def test_without_a_task(self):
        runqy.progress(0.5, "outside a task")
        runqy.Context(task_id="t").progress(0.5)
        with self.assertRaises(TypeError):
            runqy.progress("half")
        with self.assertRaises(TypeError):
            runqy.Context().progress("half")


class Log(ReportCase):
    def test_lines_carry_the_id_of_their_task(self):
        child = self.start(
            """
            logging.basicConfig(level="INFO", handlers=[LogHandler()])
            @load
            def prepare(): log.info("loaded")
            @task
            def t(p):
                log.debug("not shown")
                extra = {"n": 5, "big": 1 << 70, "nan": float("nan"), "list": [1], "none": None, "ok": True}
                log.warning("n is %d", 5, extra=extra)
                try: 1 / 0
                except ZeroDivisionError: logging.getLogger("my.app").exception("bad")
                logging.info("\\udc80 %s", "x" * 100000)
            """,
            ready=False,
        )
        self.assertEqual(child.receive(), {"log": {"level": "info", "message": "loaded", "logger": "runqy"}})
        child.ready()
        _, lines, reply = self.run_task(child)
        self.assertDone(reply, None)
        self.assertEqual(
            lines[0],
            {
                "task_id": "1",
                "level": "warn",
                "message": "n is 5",
                "logger": "runqy",
                "fields": {"n": 5, "big": str(1 << 70), "nan": "nan", "list": "[1]", "ok": True},
            },
        )
        self.assertEqual((lines[1]["level"], lines[1]["logger"], lines[1]["task_id"]), ("error", "my.app", "1"))
        self.assertRegex(lines[1]["message"], "(?s)^bad\nTraceback .*ZeroDivisionError: division by zero$")
        self.assertLess(len(lines[2]["message"]), 16 << 10, "length of a message of 100000 characters")
        self.assertEqual(len(lines), 3, f"number of log lines: {lines}")
        self.assertNotInStderr("bad", child)

    def test_the_last_line_before_a_crash_is_there(self):
        child = self.start("@task\ndef t(p):\n  log.error('about to'); os._exit(9)\n")
        child.task("1")
        self.assertEqual(child.receive()["log"]["message"], "about to")
        self.assertExits(child, 9)

    def test_a_custom_formatter(self):
        child = self.start(
            """
            handler = LogHandler()
            handler.setFormatter(logging.Formatter("<%(message)s>"))
            logging.getLogger().addHandler(handler)
            @task
            def t(p): logging.error("x"); logging.error("%d", "not a number")
            """
        )
        _, lines, reply = self.run_task(child)
        self.assertDone(reply, None)
        self.assertEqual([line["message"] for line in lines], ["<x>"])
        child.wait_stderr("--- Logging error ---")

    def test_signal_handlers_finalisers_and_threads_never_deadlock(self):
        child = self.start(
            """
            logging.basicConfig(level="INFO", handlers=[LogHandler()])
            # A timer that fires one time for each time it is armed. The main code arms it only when it has fired and
            # its handler has begun; the handler arms it only when it has not interrupted itself. So the handler runs in
            # the middle of everything, itself included, and is never more than two calls deep, on a slow machine too.
            armed, depth, signals = False, 0, 0
            def arm():
                global armed
                armed = True
                signal.setitimer(signal.ITIMER_REAL, (signals % 50 + 1) * 1e-5)
            def on_alarm(*_):
                global armed, depth, signals
                armed = False
                depth += 1
                signals += 1
                if depth == 1: arm()
                logging.info("signal"); log.info("signal"); progress(0.5, "signal")
                depth -= 1
            signal.signal(signal.SIGALRM, on_alarm)
            class Final:
                def __del__(self): logging.info("finaliser")
            def work(between=lambda: None):
                for i in range(2000):
                    between()
                    logging.info("thread %d", i); progress(i / 2000); Final()
            @task
            def t(p):
                threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(3)]
                for thread in threads: thread.start()
                work(lambda: armed or arm())
                for thread in threads: thread.join()
                while armed or depth: time.sleep(0.001)
                return signals
            """
        )
        _, lines, reply = self.run_task(child)
        signals = reply["result"]
        self.assertDone(reply, signals)
        self.assertGreater(signals, 0, "the timer never fired")
        texts = [line["message"] for line in lines]
        self.assertEqual(sum(text.startswith("thread") for text in texts), 8000, "lines of the threads")
        self.assertEqual(texts.count("signal"), 2 * signals, "lines of the signal handler")
        self.assertEqual(texts.count("finaliser"), 8000, "lines of the finaliser")

    def test_a_forked_child_writes_to_standard_error(self):
        child = self.start(
            """
            @task
            def t(p):
                stop = threading.Event()
                def report():
                    while not stop.is_set(): progress(0.5); log.info("parent")
                thread = threading.Thread(target=contextvars.copy_context().run, args=(report,))
                thread.start()
                for i in range(20):
                    pid = os.fork()
                    if pid == 0:
                        progress(0.9, "child"); log.info("child"); os._exit(7)
                    assert os.waitpid(pid, 0)[1] == 7 << 8
                stop.set(); thread.join()
            """
        )
        reports, lines, reply = self.run_task(child)
        self.assertDone(reply, None)
        self.assertEqual({report["message"] for report in reports}, {""})
        self.assertEqual({line["message"] for line in lines}, {"parent"})
        self.assertEnds(child)
        self.assertEqual(
            child.stderr.count("INFO runqy: child\n"), 20
        )  # beside what Python says about forking with threads

    def test_without_a_worker(self):
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            runqy.log.info("by hand")
            handler = runqy.LogHandler()
            handler.handle(logging.makeLogRecord({"name": "x", "levelname": "ERROR", "msg": "%s", "args": ("too",)}))
        self.assertEqual(stderr.getvalue(), "INFO runqy: by hand\nERROR x: too\n")

    def test_after_run_and_before(self):
        child = self.start(
            """
            import atexit
            log.info('before')
            atexit.register(lambda: log.info('after'))
            @task
            def t(p): log.info('during')
            """
        )
        _, lines, _ = self.run_task(child)
        self.assertEqual([line["message"] for line in lines], ["during"])
        self.assertEnds(child)
        self.assertEqual(child.stderr, "INFO runqy: before\nINFO runqy: after\n")

    def test_a_flood_loses_nothing(self):
        child = self.start("@task\ndef t(p):\n  for i in range(50000): log.info(i)\n")
        _, lines, reply = self.run_task(child)
        self.assertDone(reply, None)
        self.assertEqual([line["message"] for line in lines], [str(i) for i in range(50000)])


if __name__ == "__main__":
    unittest.main()
