"""Synchronous handlers: results, order, errors and cancellation."""

import unittest

from harness import ChildCase, request


class Replies(ChildCase):
    def test_ready_line(self):
        child = self.start("@task\ndef t(p): return p")
        self.assertEqual(child.ready_message["protocol"], 2)
        self.assertEqual(child.ready_message["handlers"], "sync")
        self.assertEqual(child.ready_message["types"], {"*": "sync"})
        self.assertEqual(child.ready_message["features"], ["ping", "cancel", "withdraw", "check", "stack", "broken"])
        self.assertEqual(
            sorted(child.ready_message["python"]), ["implementation", "major", "minor", "patchlevel", "version"]
        )
        self.assertEqual(child.ready_message["sdk"], "0.1.0")
        self.assertEqual(child.ready_message["pid"], child.process.pid)
        self.assertEnds(child)

    def test_the_line_of_a_reply(self):
        child = self.start("@task\ndef t(p): return p")
        child.task('a"é', payload={"a": [1, "é"]})
        self.assertRegex(
            child.line().decode(),
            r'^\{"task_id":"a\\"é","result":\{"a":\[1,"é"\]\},"error":null,"retry":false,"seconds":0\.\d{6}\}\n$',
        )
        child.task(7)
        self.assertRegex(
            child.line(), rb'^\{"task_id":7,"result":null,"error":null,"retry":false,"seconds":0\.\d{6}\}\n$'
        )

    def test_seconds_are_those_of_the_handler(self):
        child = self.start(
            """
            import time
            @task
            def t(p):
                begun = time.monotonic()
                while time.monotonic() - begun < p: time.sleep(p)
                if p == 0.3: raise ValueError("bad")
                if p == 0.2: raise Retry(delay=5)
                if p == 0.1: return {1}
                return time.monotonic() - begun
            """
        )
        child.send(*[request(str(p), payload=p) for p in (0.4, 0.3, 0.2, 0.1, 0)])
        for p in (0.4, 0.3, 0.2, 0.1):
            reply = child.receive()
            self.assertGreaterEqual(reply["seconds"], p, f"reply {reply}")
            self.assertEqual(list(reply)[-1], "seconds")
        # It has waited for a second.
        reply = child.receive()
        self.assertLess(reply["seconds"], reply["result"] + 0.5, f"reply {reply}")

    def test_no_seconds_without_a_handler(self):
        child = self.start("@task('known')\ndef t(p): return 1")
        for fields in ({"kind": "unknown"}, {"kind": ["list"]}, {"kind": "known", "payload_base64": "???"}):
            with self.subTest(fields=fields):
                reply = child.ask("1", **fields)
                self.assertIsNotNone(reply["error"])
                self.assertNotIn("seconds", reply)

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
        self.assertEnds(child)

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
        self.assertEqual(child.ask("3", payload=0)["retry_delay"], 0, "0 is a value: at once")

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
        self.assertLess(len(reply["error"]), 5000, "length of the error")
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
        self.assertLess(len(reply["error"]), 40000, "length of the error")

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
        reply = child.receive()
        self.assertFailed(reply, "^Cancelled: ", retry=True)
        self.assertNotIn("seconds", reply)
        child.wait_stderr("begun")
        child.send({"cancel": "1"})
        self.assertEqual(
            [(r["task_id"], r["result"]) for r in (child.receive(), child.receive())], [("1", "saw it"), ("3", "ran")]
        )
        self.assertEnds(child)
        self.assertNoMoreLines(child)

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
