"""What happens before the first task: declarations, @load, failures to start."""

import subprocess
import sys
import unittest

from harness import SDK, TIMEOUT, Child, ChildCase, environment

sys.path.insert(0, SDK)
import runqy  # noqa: E402


class Load(ChildCase):
    def test_its_value_is_in_the_context(self):
        child = self.start(
            """
            calls = []
            @load
            def prepare():
                print("loading")
                calls.append(1)
                return {"model": "m"}
            @task
            def t(p, ctx): return [ctx.loaded, ctx["model"], len(calls)]
            """
        )
        self.assertDone(child.ask("1"), [{"model": "m"}, "m", 1])
        self.assertDone(child.ask("2"), [{"model": "m"}, "m", 1])
        self.assertInStderr("loading", child)

    def test_without_a_value(self):
        child = self.start("@load()\ndef prepare(): pass\n@task\ndef t(p, ctx): return ctx['model']")
        self.assertFailed(child.ask("1"), "^KeyError: .*no @load function, or it returned None")

    def test_async_on_the_loop_of_the_handlers(self):
        for extra in ("", "@task('s')\ndef s(p, ctx): return type(ctx.loaded).__name__\n"):
            with self.subTest(extra):
                child = self.start(
                    extra
                    + "import asyncio\n"
                    + "@load\nasync def prepare(): return asyncio.get_running_loop()\n"
                    + "@task\nasync def t(p, ctx): return ctx.loaded is asyncio.get_running_loop()\n"
                )
                self.assertDone(child.ask("1"), True)
                self.assertEnds(child)

    def test_async_beside_synchronous_handlers_only(self):
        child = self.start("@load\nasync def prepare(): return 5\n@task\ndef t(p, ctx): return ctx.loaded")
        self.assertEqual(child.ready_message["handlers"], "sync")
        self.assertDone(child.ask("1"), 5)
        self.assertEnds(child)

    def test_it_may_import_handlers(self):
        child = self.start(
            """
            @load
            def prepare():
                @task("a")
                async def a(p): return "async"
                @task("s")
                def s(p): return "sync"
            """
        )
        self.assertEqual(child.ready_message["handlers"], "async")
        self.assertDone(child.ask("1", "a"), "async")
        self.assertDone(child.ask("2", "s"), "sync")

    def test_handlers_that_come_too_late(self):
        child = self.start("@task\ndef t(p):\n    @task('late')\n    async def late(p): pass")
        self.assertFailed(child.ask("1"), "^RuntimeError: @task .*late: run\\(\\) is serving already")

    def test_failure(self):
        for body, want in (
            ("raise RuntimeError('no weights')", "RuntimeError: no weights\nTraceback"),
            ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ):
            for kind in ("", "async "):
                with self.subTest(kind + body):
                    child = self.start(f"@load\n{kind}def prepare(): {body}\n@task\ndef t(p): pass", ready=False)
                    message = child.receive()
                    self.assertEqual(message["status"], "error")
                    self.assertEqual(message["error"][: len(want)], want, f"start of the error in {message}")
                    self.assertExits(child, 1)


class FailedStart(ChildCase):
    def test_no_handler(self):
        child = self.start("", ready=False)
        self.assertRegex(child.receive()["error"], "decorate a function with @task")
        self.assertExits(child, 1)

    def test_failed_import(self):
        child = self.start("import no_such_module_at_all", ready=False)
        message = child.receive()
        self.assertEqual(message["status"], "error")
        self.assertRegex(message["error"], r"^ModuleNotFoundError: .*no_such_module_at_all.*\nTraceback")
        self.assertExits(child, 1)
        self.assertInStderr("Traceback", child)

    def test_an_uncaught_exception_elsewhere_prints_no_protocol(self):
        done = subprocess.run(
            [sys.executable, "-c", "import runqy; 1/0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=TIMEOUT,
        )
        self.assertEqual((done.returncode, done.stdout), (1, b""))

    def test_run_forgotten(self):
        child = Child("from runqy import task\n@task\ndef t(p): pass\n")
        self.addCleanup(child.kill)
        self.assertExits(child, 0)
        self.assertInStderr("ended without calling run()", child)

    def test_run_in_the_wrong_place(self):
        child = Child(
            """
            import threading
            from runqy import run, task
            @task
            def t(p): return 1
            def wrong():
                try: run()
                except RuntimeError as exc: print("refused:", exc, flush=True)
            thread = threading.Thread(target=wrong); thread.start(); thread.join()
            run()
            wrong()
            """
        )
        self.addCleanup(child.kill)
        self.assertEqual(child.line(), b"refused: run() must be called from the main thread\n")
        child.ready()
        self.assertEnds(child)
        self.assertInStderr("refused: run() can be called only once", child)


class Declarations(unittest.TestCase):
    def setUp(self):
        from runqy import _registry

        self.old = _registry.registry.handlers, _registry.registry.loader
        _registry.registry.handlers, _registry.registry.loader = {}, None
        self.addCleanup(self.restore)

    def restore(self):
        from runqy import _registry

        _registry.registry.handlers, _registry.registry.loader = self.old

    def test_functions_stay_callable(self):
        @runqy.task("x")
        def double(payload, ctx):
            return payload * 2, ctx.loaded

        self.assertEqual(double(2, runqy.Context(loaded="fake")), (4, "fake"))

    def test_invalid_declarations_raise_at_once(self):
        def one(payload):
            pass

        def generator(payload):
            yield 1

        def default(payload, factor=2):
            pass

        def three(payload, ctx, more):
            pass

        def none():
            pass

        def keyword(payload, *, needed):
            pass

        runqy.task("taken")(one)
        runqy.task(one)
        runqy.load(none)
        for call, kind, pattern in (
            (lambda: runqy.task("taken")(one), ValueError, "already a handler for task type 'taken'"),
            (lambda: runqy.task(one), ValueError, "already a catch-all"),
            (lambda: runqy.task()(one), ValueError, "already a catch-all"),
            (lambda: runqy.task(3), TypeError, "is for functions"),
            (lambda: runqy.task("")(one), TypeError, "non-empty string"),
            (lambda: runqy.task("g")(generator), TypeError, "generator"),
            (lambda: runqy.task("g")(default), TypeError, "'factor' would receive the context"),
            (lambda: runqy.task("g")(three), TypeError, "too many arguments"),
            (lambda: runqy.task("g")(none), TypeError, "takes no argument"),
            (lambda: runqy.task("g")(keyword), TypeError, "keyword-only parameter 'needed'"),
            (lambda: runqy.load(none), ValueError, "already a @load"),
        ):
            with self.subTest(pattern):
                self.assertRaisesRegex(kind, pattern, call)

    def test_load_takes_no_arguments(self):
        with self.assertRaisesRegex(TypeError, "without arguments"):
            runqy.load(lambda needed: None)

    def test_signatures_that_are_fine(self):
        runqy.task("builtin")(len)
        runqy.task("star")(lambda *args: args)
        runqy.task("options")(lambda payload, ctx=None, factor=2, *, more=3, **rest: None)


class Times(unittest.TestCase):
    def test_rfc3339(self):
        from runqy._deadline import parse_time

        for text, want in (
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00+00:00"),
            ("2024-02-29t12:00:00.5z", "2024-02-29T12:00:00.500000+00:00"),
            ("2024-02-29T12:00:00.123456789-05:30", "2024-02-29T12:00:00.123456-05:30"),
        ):
            self.assertEqual(parse_time(text).isoformat(), want)
        for text in (
            "",
            "2024-02-29",
            "2024-02-29T12:00:00",
            "2023-02-29T12:00:00Z",
            None,
            5,
            "2024-02-29T12:00:00Z\n",
        ):
            with self.assertRaises(ValueError):
                parse_time(text)


if __name__ == "__main__":
    unittest.main()
