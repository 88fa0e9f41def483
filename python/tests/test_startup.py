"""What happens before the first task: declarations, @load, failures to start."""

import ast
import glob
import json
import os
import re
import subprocess
import sys
import textwrap
import unittest

from harness import TIMEOUT, ROOT, SDK, Child, ChildCase, environment

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
        self.assertIn("loading", child.stderr)

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
                self.assertEqual(child.end(), 0)

    def test_async_beside_synchronous_handlers_only(self):
        child = self.start("@load\nasync def prepare(): return 5\n@task\ndef t(p, ctx): return ctx.loaded")
        self.assertEqual(child.ready_message["handlers"], "sync")
        self.assertDone(child.ask("1"), 5)
        self.assertEqual(child.end(), 0)

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
                    self.assertTrue(message["error"].startswith(want), message)
                    self.assertEqual(child.wait(), 1)


class FailedStart(ChildCase):
    def test_no_handler(self):
        child = self.start("", ready=False)
        self.assertRegex(child.receive()["error"], "decorate a function with @task")
        self.assertEqual(child.wait(), 1)

    def test_failed_import(self):
        child = self.start("import no_such_module_at_all", ready=False)
        message = child.receive()
        self.assertEqual(message["status"], "error")
        self.assertRegex(message["error"], r"^ModuleNotFoundError: .*no_such_module_at_all.*\nTraceback")
        self.assertEqual(child.wait(), 1)
        self.assertIn("Traceback", child.stderr)

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
        self.assertEqual(child.wait(), 0)
        self.assertIn("ended without calling run()", child.stderr)

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
        self.assertEqual(child.end(), 0)
        self.assertIn("refused: run() can be called only once", child.stderr)


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

    def test_mistakes_are_told_at_once(self):
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
        from runqy._context import parse_time

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


class Sources(unittest.TestCase):
    def test_syntax_of_python_3_8(self):
        files = glob.glob(os.path.join(SDK, "**", "*.py"), recursive=True) + glob.glob(
            os.path.join(ROOT, "examples", "*.py")
        )
        self.assertGreater(len(files), 10)
        for path in files:
            with self.subTest(path), open(path, encoding="utf-8") as source:
                ast.parse(source.read(), path, feature_version=(3, 8))

    def test_standard_library_only(self):
        for path in glob.glob(os.path.join(SDK, "runqy", "*.py")):
            with open(path, encoding="utf-8") as source:
                tree = ast.parse(source.read(), path)
            for node in ast.walk(tree):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    with self.subTest(path=path, name=name):
                        top = name.split(".")[0]
                        self.assertTrue(top == "__future__" or top in STANDARD, name)


STANDARD = {
    "asyncio",
    "atexit",
    "base64",
    "builtins",
    "collections",
    "contextvars",
    "datetime",
    "faulthandler",
    "fcntl",
    "gc",
    "inspect",
    "json",
    "logging",
    "math",
    "os",
    "platform",
    "queue",
    "re",
    "signal",
    "stat",
    "sys",
    "threading",
    "time",
    "traceback",
    "typing",
}


class Documented(unittest.TestCase):
    """What docs/python.md and examples/ show is true."""

    def talk(self, name, *lines):
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "examples", name)],
            input="".join(line + "\n" for line in lines).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=TIMEOUT,
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        messages = [json.loads(line) for line in done.stdout.decode().splitlines() if line]
        messages = [message for message in messages if not {"log", "progress"} & set(message)]
        self.assertEqual(messages[0]["status"], "ready")
        return {message["task_id"]: message for message in messages[1:]}

    def test_hello(self):
        replies = self.talk("hello.py", '{"task_id":"1","type":"hello","payload":{"name":"Ada"}}')
        self.assertEqual(replies["1"]["result"], {"greeting": "Hello, Ada!"})

    def test_image_model(self):
        red = "UDYgMSAxIDI1NQr/AAA="
        replies = self.talk(
            "image_model.py",
            json.dumps({"task_id": "1", "type": "classify", "payload": {"image": red}}),
            json.dumps({"task_id": "2", "type": "classify", "payload": {"image": "UDYgeCB4IHgKAA=="}}),
            json.dumps({"task_id": "3", "type": "classify_many", "payload": {"images": [red, red]}}),
        )
        self.assertEqual(replies["1"]["result"]["label"], "red")
        self.assertRegex(replies["2"]["error"], "^Permanent: ")
        self.assertIs(replies["2"]["retry"], False)
        self.assertEqual(len(replies["3"]["result"]), 2)

    def test_async_fetch(self):
        replies = self.talk(
            "async_fetch.py",
            '{"task_id":"1","type":"sleep","payload":{"seconds":0.01}}',
            '{"task_id":"2","type":"fetch","payload":{"url":"ftp://x"}}',
            '{"task_id":"3","type":"fetch","payload":{"url":"http://127.0.0.1:1/"},"deadline":"2020-01-01T00:00:00Z"}',
        )
        self.assertEqual(replies["1"]["result"], {"slept": 0.01})
        self.assertIs(replies["2"]["retry"], False)
        self.assertRegex(replies["3"]["error"], "^URLError: .*refused")

    def test_legacy(self):
        replies = self.talk(
            "legacy_v1.py", '{"task_id":"1","payload":{"numbers":[1,2]}}', '{"task_id":"2","payload":{}}'
        )
        self.assertEqual(replies["1"]["result"], {"sum": 3})
        self.assertEqual((replies["2"]["result"], replies["2"]["retry"]), (None, True))

    def test_blocks_of_the_guide_parse(self):
        with open(os.path.join(ROOT, "docs", "python.md"), encoding="utf-8") as source:
            text = source.read()
        blocks = re.findall(r"^( *)```(python|json)\n(.*?)^ *```$", text, re.M | re.S)
        self.assertGreater(len(blocks), 10)
        for indent, language, block in blocks:
            block = textwrap.dedent(block)
            with self.subTest(block):
                if language == "python":
                    ast.parse(block, feature_version=(3, 8))
                else:
                    for line in block.splitlines():
                        json.loads(line)

    def test_version_is_the_same_everywhere(self):
        with open(os.path.join(ROOT, "docs", "python.md"), encoding="utf-8") as source:
            self.assertIn(f'"sdk":"{runqy.__version__}"', source.read())
        with open(os.path.join(SDK, "pyproject.toml"), encoding="utf-8") as source:
            self.assertIn("runqy._version.__version__", source.read())


if __name__ == "__main__":
    unittest.main()
