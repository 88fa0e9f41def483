"""Synchronous handlers: results, errors, order, and everything a handler may do to its process."""

import contextlib
import json
import signal
import subprocess
import sys
import unittest

from harness import TIMEOUT, Child, ChildCase, environment, request


class Replies(ChildCase):
    def test_ready_line(self):
        child = self.start("@task\ndef t(p): return p")
        self.assertEqual(child.ready_message["protocol"], 2)
        self.assertEqual(child.ready_message["handlers"], "sync")
        self.assertEqual(
            sorted(child.ready_message["python"]), ["implementation", "major", "minor", "patchlevel", "version"]
        )
        self.assertEqual(child.ready_message["sdk"], "0.1.0")
        self.assertEqual(child.ready_message["pid"], child.process.pid)
        self.assertEqual(child.end(), 0)

    def test_by_type_and_catch_all(self):
        child = self.start(
            """
            @task("a", "b")
            def named(p): return "named"
            @task
            def rest(p): return "rest"
            """
        )
        for kind, want in (("a", "named"), ("b", "named"), ("z", "rest"), ("", "rest")):
            self.assertDone(child.ask("1", kind), want)

    def test_unknown_type_is_retried(self):
        child = self.start("@task('known')\ndef t(p): return 1")
        self.assertFailed(child.ask("1", "other"), r"^UnknownTask: .*'other'.*'known'", retry=True)
        self.assertDone(child.ask("2", "known"), 1)

    def test_type_that_is_no_string(self):
        child = self.start("@task\ndef t(p): return 1")
        self.assertFailed(child.ask("1", ["list"]), "^BadRequest: ", retry=False)

    def test_payload_values(self):
        child = self.start("@task\ndef t(p): return p")
        for payload in (None, True, 0, -1.5, "", "grüße 👋", [], {"a": [1, {"b": None}]}, 2**70):
            self.assertDone(child.ask("1", payload=payload), payload)

    def test_payload_base64(self):
        child = self.start("@task\ndef t(p): return [type(p).__name__, p.hex()]")
        message = request("1")
        del message["payload"]
        message["payload_base64"] = "AP/+"
        child.send(message)
        self.assertDone(child.receive(), ["bytes", "00fffe"])

    def test_payload_base64_that_is_none(self):
        child = self.start("@task\ndef t(p): return 1")
        child.send(dict(request("1"), payload_base64="???"))
        self.assertFailed(child.receive(), "^BadRequest: .*base64", retry=False)

    def test_context(self):
        child = self.start(
            """
            import datetime
            @task
            def t(p, ctx):
                return [ctx.task_id, ctx.type, ctx.queue, ctx.retry_count, ctx.max_retry, ctx.headers,
                        ctx.deadline.isoformat(), ctx.remaining() > 0, ctx.cancelled, ctx.loaded]
            """
        )
        reply = child.ask(
            "id-1",
            "kind",
            retry_count=2,
            max_retry=7,
            queue="q",
            headers={"h": "v"},
            deadline="2999-01-02T03:04:05.123456789+01:30",
        )
        self.assertDone(
            reply,
            ["id-1", "kind", "q", 2, 7, {"h": "v"}, "2999-01-02T03:04:05.123456+01:30", True, False, None],
        )

    def test_context_of_a_bare_request(self):
        child = self.start(
            "@task\ndef t(p, ctx=None): return [p, ctx.deadline, ctx.remaining(), ctx.headers, ctx.queue]"
        )
        child.send({"task_id": "1"})
        self.assertDone(child.receive(), [None, None, None, {}, ""])

    def test_order_and_one_write_per_batch_lose_nothing(self):
        child = self.start("@task\ndef t(p): return p")
        child.send(*[request(f"id{n}", payload=n) for n in range(5000)])
        for n in range(5000):
            reply = child.receive()
            self.assertEqual((reply["task_id"], reply["result"]), (f"id{n}", n))
        self.assertEqual(child.end(), 0)

    def test_handlers_run_on_the_main_thread_one_at_a_time(self):
        child = self.start(
            """
            import threading
            running = []
            @task
            def t(p):
                running.append(1)
                seen = len(running), threading.current_thread() is threading.main_thread()
                running.pop()
                return seen
            """
        )
        child.send(*[request(str(n)) for n in range(200)])
        for _ in range(200):
            self.assertDone(child.receive(), [1, True])

    def test_same_id_twice(self):
        child = self.start("@task\ndef t(p): return p")
        child.send(request("1", payload="a"), request("1", payload="b"))
        self.assertEqual([child.receive()["result"], child.receive()["result"]], ["a", "b"])


class Errors(ChildCase):
    def test_exception(self):
        child = self.start("def inner(): raise ValueError('bad thing')\n@task\ndef t(p): inner()")
        reply = child.ask("1")
        self.assertFailed(reply, r"^ValueError: bad thing\nTraceback \(most recent call last\):\n")
        self.assertIn("in inner", reply["error"])
        self.assertNotIn("_runtime.py", reply["error"])
        self.assertNotIn("retry_delay", reply)

    def test_permanent(self):
        child = self.start("@task\ndef t(p): raise Permanent('no such file')")
        self.assertFailed(child.ask("1"), r"^Permanent: no such file\n", retry=False)

    def test_retry_with_delay(self):
        child = self.start("@task\ndef t(p): raise Retry('rate limited', delay=p)")
        reply = child.ask("1", payload=2.5)
        self.assertFailed(reply, "^Retry: rate limited\n")
        self.assertEqual(reply["retry_delay"], 2.5)
        self.assertNotIn("retry_delay", child.ask("2", payload=None))

    def test_retry_with_impossible_delay(self):
        child = self.start("@task\ndef t(p): raise Retry(delay=p)")
        self.assertFailed(child.ask("1", payload=-1), r"^ValueError: Retry\(delay=-1\)")
        self.assertFailed(child.ask("2", payload="3"), r"^TypeError: Retry\(delay='3'\)")

    def test_nan_and_infinity(self):
        child = self.start(
            """
            @task
            def t(p): return {"scores": [1.0, {"x": float(p)}]}
            """
        )
        for value in ("nan", "inf", "-inf"):
            self.assertFailed(
                child.ask("1", payload=value), rf"^ResultError: result\['scores'\]\[1\]\['x'\] is {value}"
            )
        self.assertDone(child.ask("2", payload="1.5"), {"scores": [1.0, {"x": 1.5}]})

    def test_unserialisable_results_name_place_and_type(self):
        child = self.start(
            """
            import datetime, decimal
            class Own: pass
            async def later(): pass
            loop = []; loop.append(loop)
            deep = []
            for _ in range(100000): deep = [deep]
            values = {
                "set": {1}, "bytes": b"x", "own": Own(), "nested": {"a": [0, decimal.Decimal(1)]}, "key": {(1, 2): 3},
                "loop": loop, "deep": deep, "coroutine": later(), "function": later, "digits": 10 ** 5000,
            }
            @task
            def t(p): return values[p]
            """
        )
        for name, pattern in (
            ("set", "result is of type set,"),
            ("bytes", "result is of type bytes,"),
            ("own", "result is of type Own,"),
            ("nested", r"result\['a'\]\[1\] is of type decimal.Decimal,"),
            ("key", "result has a key of type tuple"),
            ("loop", r"result\[0\] contains itself"),
            ("deep", "(the )?result is nested too deeply"),
            ("coroutine", "result is a coroutine; declare the handler `async def`"),
            ("function", "result is of type function,"),
        ):
            with self.subTest(name):
                self.assertFailed(child.ask(name, payload=name), "^ResultError: " + pattern)
        reply = child.ask("digits", payload="digits")
        if reply["error"]:  # Python has had a limit since 3.11
            self.assertFailed(reply, "^ResultError: result is an integer with too many digits")

    def test_system_exit_and_keyboard_interrupt_are_task_errors(self):
        child = self.start(
            """
            import sys
            @task
            def t(p):
                if p == "exit": sys.exit(3)
                if p == "quit": raise SystemExit
                if p == "interrupt": raise KeyboardInterrupt
                if p == "generator": raise GeneratorExit
                return "alive"
            """
        )
        self.assertFailed(child.ask("1", payload="exit"), "^SystemExit: 3\n")
        self.assertFailed(child.ask("2", payload="quit"), "^SystemExit\n")
        self.assertFailed(child.ask("3", payload="interrupt"), "^KeyboardInterrupt\n")
        self.assertFailed(child.ask("4", payload="generator"), "^GeneratorExit\n")
        self.assertDone(child.ask("5"), "alive")

    def test_deep_recursion(self):
        child = self.start("def down(n): return down(n + 1)\n@task\ndef t(p): return down(0) if p else 'fine'")
        reply = child.ask("1", payload=True)
        self.assertFailed(reply, "^RecursionError: maximum recursion depth exceeded")
        self.assertLess(len(reply["error"]), 5000)
        self.assertDone(child.ask("2", payload=False), "fine")

    def test_exceptions_that_resist_description(self):
        child = self.start(
            """
            class Evil(Exception):
                def __str__(self): raise SystemExit("no")
            @task
            def t(p):
                if p: raise ValueError("x" * 10_000_000)
                raise Evil()
            """
        )
        self.assertFailed(child.ask("1", payload=False), "^Evil: ")
        reply = child.ask("2", payload=True)
        self.assertFailed(reply, "^ValueError: xxx")
        self.assertLess(len(reply["error"]), 40000)

    def test_chained_exceptions_are_shown(self):
        child = self.start(
            """
            @task
            def t(p):
                try: {}["key"]
                except KeyError as exc: raise Permanent("unknown model") from exc
            """
        )
        reply = child.ask("1")
        self.assertFailed(reply, "^Permanent: unknown model\n", retry=False)
        self.assertIn("KeyError: 'key'", reply["error"])


class Output(ChildCase):
    def test_prints_go_to_stderr_only(self):
        child = self.start(
            """
            import sys
            print("while importing")
            @task
            def t(p):
                print("printed")
                print('{"task_id":"1","result":"forged"}')
                sys.stdout.write("no newline")
                sys.__stdout__.write(" and more\\n")
                print("surrogate \\ud800")
                return 1
            """
        )
        self.assertDone(child.ask("1"), 1)
        self.assertEqual(child.end(), 0)
        self.assertIsNone(child.lines.get(timeout=5))
        for text in ("while importing", "printed\n", "forged", "no newline and more\n", "surrogate \\ud800"):
            self.assertIn(text, child.stderr)

    def test_a_partial_line_before_run_does_not_hide_readiness(self):
        child = self.start("print('Loading... ', end='', flush=True)\n@task\ndef t(p): return 1", ready=False)
        self.assertEqual(child.line(), b"Loading... \n")
        child.ready()

    def test_c_code_and_subprocesses(self):
        child = self.start(
            """
            import ctypes, os, subprocess, sys
            libc = ctypes.CDLL(None)
            @task
            def t(p):
                libc.puts(b"from C"); libc.fflush(None)
                os.write(1, b"to descriptor one\\n")
                subprocess.run(["sh", "-c", "echo from a shell; cat; echo end of input"], check=True)
                os.system("echo from system")
                return [sys.stdin.read(), os.read(0, 10).decode()]
            """
        )
        self.assertDone(child.ask("1"), ["", ""])
        self.assertEqual(child.end(), 0)
        self.assertIsNone(child.lines.get(timeout=5))
        for text in ("from C", "to descriptor one", "from a shell", "end of input", "from system"):
            self.assertIn(text, child.stderr)

    def test_children_do_not_inherit_the_protocol(self):
        child = self.start(
            """
            import os, subprocess, sys
            @task
            def t(p):
                code = "import os; print(sorted(int(n) for n in os.listdir('/dev/fd')))"
                command = [sys.executable, "-c", code]
                return subprocess.run(command, close_fds=False, stdout=subprocess.PIPE).stdout.decode()
            """
        )
        listed = json.loads(child.ask("1")["result"])
        # The listing itself holds one descriptor.
        self.assertLessEqual(len([n for n in listed if n > 2]), 1, listed)

    def test_input_meets_end_of_file(self):
        child = self.start("@task\ndef t(p): return input()")
        self.assertFailed(child.ask("1"), "^EOFError")

    def test_a_forked_child_does_not_answer(self):
        child = self.start(
            """
            import os, sys
            @task
            def t(p):
                pid = os.fork()
                if pid == 0:
                    if p == "return": return "the child's"
                    sys.exit(7)
                return ["the parent's", os.waitpid(pid, 0)[1] >> 8]
            """
        )
        self.assertDone(child.ask("1", payload="return"), ["the parent's", 0])
        self.assertDone(child.ask("2", payload="exit"), ["the parent's", 7])
        self.assertEqual(child.end(), 0)
        self.assertIsNone(child.lines.get(timeout=5))

    def test_multiprocessing(self):
        child = self.start(
            """
            import multiprocessing
            def square(n): return n * n
            @task
            def t(p):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(square, [1, 2, 3])
            """
        )
        self.assertDone(child.ask("1"), [1, 4, 9])
        self.assertEqual(child.end(), 0)

    def test_closed_stderr(self):
        child = self.start("import os; os.close(2)\n@task\ndef t(p): print('lost'); return 1")
        self.assertDone(child.ask("1"), 1)
        self.assertEqual(child.end(), 0)


class Lines(ChildCase):
    def test_invalid_lines_are_noted_and_skipped(self):
        child = self.start("@task\ndef t(p): return p")
        child.raw(
            b'\n  \r\nnot json\n[1,2]\n42\n{}\n{"what":1}\n{"task_id"\n{"a":1}{"b":2}\n\xff\xfe\n'
            + json.dumps(request("1", payload="ok")).encode()
            + b"\r\n"
            + b"   "
            + json.dumps(request("2", payload="ok")).encode()
            + b"  \n"
        )
        self.assertDone(child.receive(), "ok")
        self.assertDone(child.receive(), "ok")
        self.assertEqual(child.end(), 0)
        self.assertEqual(child.stderr.count("runqy: ignored an input line"), 8, child.stderr)

    def test_a_task_that_cannot_be_read_is_answered(self):
        child = self.start("@task\ndef t(p): return 'fine'")
        child.raw(b'{"task_id":"deep","type":"t","payload":' + b"[" * 200000 + b"]" * 200000 + b"}\n")
        self.assertFailed(child.receive(), "^BadRequest: .*nested too deeply", retry=False)
        child.raw(b'{"task_id":"utf8","type":"t","payload":"\xff\xfe"}\n')
        self.assertFailed(child.receive(), "^BadRequest: .*utf-8", retry=False)
        child.raw(b'{"task_id":"cut","type":"t","payl\n')
        self.assertFailed(child.receive(), "^BadRequest: ", retry=False)
        child.raw(b'{"task_id":"digits","type":"t","payload":' + b"1" * 5000 + b"}\n")
        self.assertEqual(child.receive()["task_id"], "digits")
        self.assertDone(child.ask("1"), "fine")

    def test_a_line_in_many_pieces(self):
        child = self.start("@task\ndef t(p): return p")
        for byte in json.dumps(request("1", payload="é")).encode() + b"\n":
            child.raw(bytes([byte]))
        self.assertDone(child.receive(), "é")

    def test_lone_surrogates(self):
        child = self.start(
            """
            @task
            def t(p):
                if p == "raise": raise ValueError("\\udfff")
                return p
            """
        )
        child.raw(b'{"task_id":"1","type":"t","payload":{"\\ud800":"\\udc00 \xc3\xa9"}}\n')
        line = child.line()
        self.assertDone(json.loads(line), {"\ud800": "\udc00 é"})
        line.decode("utf-8")
        self.assertFailed(child.ask("2", payload="raise"), "^ValueError: \udfff")
        self.assertEqual(child.ask("\ud801")["task_id"], "\ud801")

    def test_fifty_megabytes(self):
        child = self.start("@task\ndef t(p): return {'data': p, 'n': len(p)}")
        size = 50 * 1024 * 1024
        child.raw(b'{"task_id":"1","type":"t","payload":"' + b"x" * size + b'"}\n{"ping":1}\n')
        lines = [child.line(), child.line()]
        big = max(lines, key=len)
        self.assertGreater(len(big), size)
        reply = json.loads(big)
        self.assertEqual((reply["task_id"], reply["result"]["n"], len(reply["result"]["data"])), ("1", size, size))
        self.assertEqual(json.loads(min(lines, key=len))["pong"], 1)
        self.assertEqual(child.end(), 0)


class Lifetime(ChildCase):
    def test_end_of_input_finishes_what_was_read(self):
        child = self.start("import time\n@task\ndef t(p): time.sleep(0.01); return p")
        child.raw(b"".join(json.dumps(request(str(n), payload=n)).encode() + b"\n" for n in range(20))[:-1])
        self.assertEqual(child.end(), 0)
        self.assertEqual([child.receive()["result"] for _ in range(20)], list(range(20)))

    def test_code_after_run_is_reached(self):
        child = Child("from runqy import run, task\n@task\ndef t(p): pass\nrun()\nprint('after')\n")
        self.addCleanup(child.kill)
        child.ready()
        self.assertEqual(child.end(), 0)
        self.assertIn("after", child.stderr)

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
        self.assertEqual(child.wait(), -signal.SIGSEGV)
        self.assertIn("Fatal Python error: Segmentation fault", child.stderr)
        self.assertIn("in deep", child.stderr)

    def test_sigint_between_tasks_ends_it(self):
        child = self.start("@task\ndef t(p): return 1")
        self.assertDone(child.ask("1"), 1)
        child.process.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(), 130)
        self.assertNotIn("Traceback", child.stderr)

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


class Pings(ChildCase):
    def test_pong_while_a_handler_runs(self):
        child = self.start("import threading\ngo = threading.Event()\n@task\ndef t(p): go.wait()")
        child.task("1")
        child.send({"ping": 7})
        pong = child.receive()
        self.assertEqual((pong["pong"], pong["lag"]), (7, 0.0))
        for number, generation in enumerate(pong["stats"]["gc"]):
            self.assertEqual(sorted(generation), ["collected", "collections", "generation", "uncollectable"])
            self.assertEqual(generation["generation"], number)

    def test_pong_while_a_handler_computes(self):
        child = self.start(
            """
            stop = []
            @task
            def t(p):
                print("begun", flush=True)
                n = 0
                while True: n += 1
            """
        )
        child.task("1")
        child.wait_stderr("begun")
        child.send({"ping": 1})
        self.assertEqual(child.receive()["pong"], 1)


class Cancel(ChildCase):
    SOURCE = """
        import time
        @task("wait")
        def wait(p, ctx):
            print("begun", flush=True)
            while not ctx.cancelled: time.sleep(0.005)
            return "saw it"
        @task("t")
        def t(p): return "ran"
        """

    def test_queued_task_is_dropped(self):
        child = self.start(self.SOURCE)
        child.send(request("1", "wait"), request("2"), request("3"), {"cancel": "2"}, {"cancel": "nobody"})
        self.assertFailed(child.receive(), "^Cancelled: ", retry=True)
        child.wait_stderr("begun")
        child.send({"cancel": "1"})
        self.assertEqual(
            [(r["task_id"], r["result"]) for r in (child.receive(), child.receive())], [("1", "saw it"), ("3", "ran")]
        )
        self.assertEqual(child.end(), 0)
        self.assertIsNone(child.lines.get(timeout=5))

    def test_running_task_sees_it_in_its_context(self):
        child = self.start(self.SOURCE)
        child.task("1", "wait")
        child.wait_stderr("begun")
        child.send({"cancel": "1"})
        self.assertDone(child.receive(), "saw it")

    def test_finished_task(self):
        child = self.start(self.SOURCE)
        self.assertDone(child.ask("1"), "ran")
        child.send({"cancel": "1"})
        self.assertDone(child.ask("2"), "ran")


if __name__ == "__main__":
    unittest.main()
