"""@health: when the function is called, with what, and what counts as a failure; Broken."""

import sys
import unittest

from harness import SDK, ChildCase, request

sys.path.insert(0, SDK)
import runqy  # noqa: E402

KINDS = (
    "@task\ndef t(p): return p\n",
    "@task\nasync def t(p): return p\n",
    "@task('t')\ndef t(p): return p\n@task('a')\nasync def a(p): return p\n",
)


class Checks(ChildCase):
    HEAD = "from runqy import Broken, Context, Permanent, Retry, health, load, run, task\n"

    def check(self, child, number=1):
        child.send({"check": number})
        answer = child.receive()
        self.assertEqual(answer.get("check"), number, answer)
        return answer

    def test_announced(self):
        child = self.start(KINDS[0])
        for feature in ("check", "broken"):
            self.assertIn(feature, child.ready_message["features"])

    def test_without_a_function_it_passes(self):
        for kinds in KINDS:
            with self.subTest(kinds):
                child = self.start(kinds)
                self.assertEqual(self.check(child, 7), {"check": 7, "ok": True})
                self.assertEnds(child)

    def test_passes(self):
        for body in ("pass", "return None", "return True", "return 1", "return {'gpu': 0}"):
            for kind in ("def", "async def"):
                with self.subTest(body, kind=kind):
                    child = self.start(KINDS[0] + f"@health\n{kind} h(): {body}")
                    self.assertEqual(self.check(child), {"check": 1, "ok": True})

    def test_fails(self):
        for body, error in (
            ("raise RuntimeError('no GPU')", "^RuntimeError: no GPU\nTraceback"),
            ("import sys; sys.exit(3)", "^SystemExit: 3"),
            ("return False", "^the check returned False$"),
            ("return 0", "^the check returned 0$"),
            ("return 'the licence server is away'", "^the licence server is away$"),
            ("return ''", "^the check returned an empty text$"),
        ):
            for kinds in KINDS:
                for kind in ("def", "async def"):
                    with self.subTest(body, kinds=kinds, kind=kind):
                        child = self.start(kinds + f"@health\n{kind} h(): {body}")
                        answer = self.check(child)
                        self.assertIs(answer["ok"], False)
                        self.assertRegex(answer["error"], error)
                        self.assertDone(child.ask("1", payload=5), 5)

    def test_a_coroutine_that_nobody_awaits(self):
        child = self.start(KINDS[0] + "async def real(): pass\n@health\ndef h(): return real()")
        self.assertRegex(self.check(child)["error"], "declare it `async def`")
        child.end()
        self.assertNotInStderr("never awaited", child)

    def test_it_gets_what_was_loaded(self):
        for kind in ("def", "async def"):
            with self.subTest(kind):
                child = self.start(
                    KINDS[0] + f"@load\ndef l(): return {{'gpu': 'seven'}}\n@health\n{kind} h(ctx): return ctx['gpu']"
                )
                self.assertEqual(self.check(child)["error"], "seven")

    def test_where_it_runs(self):
        # A plain one on the main thread, an async one on the loop of the handlers.
        for kinds in KINDS:
            child = self.start(
                kinds
                + "import threading\n"
                + "@health()\ndef h(): return str(threading.current_thread() is threading.main_thread())"
            )
            self.assertEqual(self.check(child)["error"], "True", kinds)
        child = self.start(
            """
            import asyncio
            @load
            async def l(): return asyncio.get_running_loop()
            @task
            async def t(p, ctx): return ctx.loaded is asyncio.get_running_loop()
            @health
            async def h(ctx): return str(ctx.loaded is asyncio.get_running_loop())
            """
        )
        self.assertEqual(self.check(child)["error"], "True")
        self.assertDone(child.ask("1"), True)

    def test_between_tasks(self):
        # In the order in which the lines came, for handlers on the main thread.
        child = self.start(
            "seen = []\n@task\ndef t(p): seen.append(p); return len(seen)\n@health\ndef h(): return str(len(seen))"
        )
        child.send(request("1"), request("2"), {"check": 1}, request("3"))
        got = [child.receive() for _ in range(4)]
        self.assertEqual([m.get("task_id", m.get("check")) for m in got], ["1", "2", 1, "3"])
        self.assertEqual(got[2]["error"], "2")

    def test_a_hanging_one_leaves_the_pings(self):
        child = self.start(KINDS[0] + "import threading\n@health\ndef h(): threading.Event().wait()")
        child.send({"check": 1}, {"ping": 2})
        self.assertIs(child.receive()["main"], True)

    def test_one_that_forks_and_returns_answers_once(self):
        for kinds in KINDS[:2]:
            child = self.start(kinds + "import os\n@health\ndef h():\n    if os.fork(): os.wait()")
            self.assertEqual(self.check(child), {"check": 1, "ok": True})
            self.assertEnds(child)
            self.assertNoMoreLines(child)

    def test_declarations(self):
        self.addCleanup(setattr, runqy._registry.registry, "check", None)
        for func in (lambda a, b: None, lambda *, key: None):
            self.assertRaises(TypeError, runqy.health, func)
        with self.assertRaisesRegex(TypeError, "would receive the context"):
            runqy.health(lambda limit=2: None)
        self.assertRaises(TypeError, runqy.health, 5)
        first = runqy.health(lambda ctx=None, *more: None)
        with self.assertRaisesRegex(ValueError, "there is already a @health function"):
            runqy.health(first)

    def test_declared_too_late(self):
        child = self.start("@task\ndef t(p):\n    @health\n    def late(): pass")
        self.assertFailed(child.ask("1"), "^RuntimeError: @health .*late: run\\(\\) is serving already")


class BrokenProcess(ChildCase):
    HEAD = Checks.HEAD

    def assertBroken(self, reply, error):
        self.assertFailed(reply, error)
        self.assertIs(reply.get("broken"), True, reply)

    def test_nothing_begins_after_it(self):
        for kinds in ("def", "async def"):
            with self.subTest(kinds):
                child = self.start(
                    f"@task('b')\n{kinds} b(p): raise Broken('CUDA error')\n@task\n{kinds} t(p): return p"
                )
                child.send(request("1", "b"), request("2"), request("3"))
                self.assertBroken(child.receive(), "^Broken: CUDA error\nTraceback")
                child.send({"check": 1}, request("4"), {"withdraw": "2"}, {"withdraw": "3"}, {"withdraw": "4"})
                self.assertEqual([child.receive() for _ in range(3)], [{"withdrawn": str(n)} for n in (2, 3, 4)])
                self.assertEnds(child)
                self.assertNoMoreLines(child)

    def test_it_ends_with_tasks_that_nobody_asked_back(self):
        for kinds in ("def", "async def"):
            child = self.start(f"@task('b')\n{kinds} b(p): raise Broken\n@task\n{kinds} t(p): return p")
            child.send(request("1", "b"), request("2"))
            self.assertBroken(child.receive(), "^Broken")
            self.assertEnds(child)
            self.assertNoMoreLines(child)

    def test_running_async_tasks_may_end(self):
        child = self.start(
            """
            import asyncio
            go = asyncio.Event()
            @task("wait")
            async def wait(p): await asyncio.sleep(0.05); return "ended"
            @task("b")
            async def b(p): raise Broken("it is over")
            """
        )
        child.send(request("1", "wait"), request("2", "b"))
        self.assertBroken(child.receive(), "it is over")
        self.assertDone(child.receive(), "ended")
        self.assertEnds(child)

    def test_in_a_group(self):
        if sys.version_info < (3, 11):
            self.skipTest("exception groups are of Python 3.11")
        child = self.start("@task\ndef t(p): raise ExceptionGroup('g', [Permanent('p'), Broken('b')])")
        self.assertBroken(child.ask("1"), "^ExceptionGroup")


if __name__ == "__main__":
    unittest.main()
