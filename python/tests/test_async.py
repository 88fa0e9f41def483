"""`async def` handlers: concurrency, cancellation, the loop's lag, and both kinds in one process."""

import os
import signal
import unittest

from harness import ChildCase, request


class Replies(ChildCase):
    def test_announced_and_run_on_the_main_thread(self):
        child = self.start(
            """
            import threading
            @task
            async def t(p, ctx): return [p, ctx.task_id, threading.current_thread() is threading.main_thread()]
            """
        )
        self.assertEqual(child.ready_message["handlers"], "async")
        self.assertDone(child.ask("1", payload="x"), ["x", "1", True])
        self.assertEnds(child)

    def test_seconds_include_what_it_waits_for(self):
        child = self.start("import asyncio\n@task\nasync def t(p): await asyncio.sleep(p)")
        self.assertGreaterEqual(child.ask("1", payload=0.1)["seconds"], 0.1)

    def test_each_has_a_task_and_a_context_of_its_own(self):
        # Both of a handler that never waits and of one that does.
        child = self.start(
            """
            import asyncio, contextvars
            number = contextvars.ContextVar("number", default=None)
            tasks = []
            @task
            async def t(p):
                before = number.get()
                number.set(p)
                tasks.append(asyncio.current_task())
                if p % 2: await asyncio.sleep(0)
                return [before, number.get() == p, tasks.count(asyncio.current_task())]
            """
        )
        child.send(*[request(str(n), payload=n) for n in range(50)])
        for _ in range(50):
            self.assertDone(child.receive(), [None, True, 1])

    def test_concurrent(self):
        # Each waits for the other: one at a time they would never end.
        child = self.start(
            """
            import asyncio
            seen = {}
            @task
            async def t(p):
                mine = seen.setdefault(p, asyncio.Event())
                other = seen.setdefault(1 - p, asyncio.Event())
                mine.set()
                await other.wait()
                return p
            """
        )
        child.send(request("a", payload=0), request("b", payload=1))
        self.assertEqual({child.receive()["task_id"], child.receive()["task_id"]}, {"a", "b"})

    def test_many(self):
        child = self.start("import asyncio\n@task\nasync def t(p):\n    await asyncio.sleep(0)\n    return p")
        child.send(*[request(str(n), payload=n) for n in range(2000)])
        self.assertEqual(sorted(child.receive()["result"] for _ in range(2000)), list(range(2000)))

    def test_callable_objects_and_partials(self):
        child = self.start(
            """
            import functools
            class Model:
                async def __call__(self, p): return "called"
            async def two(p, *, factor): return p * factor
            task("object")(Model())
            task("partial")(functools.partial(two, factor=3))
            @task
            def rest(p): pass
            """
        )
        self.assertEqual(child.ready_message["handlers"], "async")
        self.assertEqual(child.ready_message["types"], {"object": "async", "partial": "async", "*": "sync"})
        self.assertDone(child.ask("1", "object"), "called")
        self.assertDone(child.ask("2", "partial", 5), 15)

    def test_both_kinds(self):
        child = self.start(
            """
            import asyncio, threading
            go = threading.Event()
            @task("sync")
            def s(p):
                if p: go.wait()
                return threading.current_thread() is threading.main_thread()
            @task("async")
            async def a(p):
                if p: go.set()
                return threading.current_thread() is threading.main_thread()
            """
        )
        self.assertEqual(child.ready_message["handlers"], "async")
        child.task("s", "sync", True)
        self.assertDone(child.ask("a", "async", False), False)
        child.task("b", "async", True)
        self.assertEqual(
            {(r["task_id"], r["result"]) for r in (child.receive(), child.receive())}, {("s", True), ("b", False)}
        )
        self.assertEnds(child)

    def test_end_of_input_finishes_both_kinds(self):
        child = self.start(
            """
            import asyncio, time
            @task("sync")
            def s(p): time.sleep(0.02); return p
            @task("async")
            async def a(p): await asyncio.sleep(0.1); return p
            """
        )
        child.send(*[request(kind + str(n), kind, n) for kind in ("async", "sync") for n in range(5)])
        self.assertEnds(child)
        self.assertEqual(len({child.receive()["task_id"] for _ in range(10)}), 10)

    def test_background_tasks_and_generators_are_closed_at_the_end(self):
        child = self.start(
            """
            import asyncio
            keep = []
            async def forever():
                try: await asyncio.sleep(3600)
                finally: print("background closed", flush=True)
            @task
            async def t(p):
                keep.append(asyncio.ensure_future(forever()))
                await asyncio.sleep(0)
                return 1
            """
        )
        self.assertDone(child.ask("1"), 1)
        self.assertEnds(child)
        self.assertInStderr("background closed", child)


class Errors(ChildCase):
    def test_errors(self):
        child = self.start(
            """
            import asyncio, sys
            async def leave(): sys.exit(4)
            async def stop(): raise KeyboardInterrupt
            @task
            async def t(p):
                if p == "error": raise ValueError("bad")
                if p == "permanent": raise Permanent("never")
                if p == "retry": raise Retry("later", delay=9)
                if p == "exit": sys.exit(3)
                if p == "nested exit": await asyncio.ensure_future(leave())
                if p == "nested interrupt": await asyncio.gather(stop(), asyncio.sleep(0.01))
                if p == "cancelled": raise asyncio.CancelledError()
                if p == "stop the loop": asyncio.get_running_loop().stop()
                if p == "cancel all":
                    for other in asyncio.all_tasks() - {asyncio.current_task()}: other.cancel()
                if p == "nan": return float("nan")
                if p == "set": return {1}
                return "fine"
            """
        )
        self.assertFailed(child.ask("1", payload="error"), r"^ValueError: bad\nTraceback")
        self.assertFailed(child.ask("2", payload="permanent"), "^Permanent: never\n", retry=False)
        reply = child.ask("3", payload="retry")
        self.assertFailed(reply, "^Retry: later\n")
        self.assertEqual(reply["retry_delay"], 9.0)
        self.assertFailed(child.ask("4", payload="exit"), "^SystemExit: 3\n")
        self.assertFailed(child.ask("5", payload="nested exit"), "^SystemExit: 4\n")
        self.assertFailed(child.ask("6", payload="nested interrupt"), "^KeyboardInterrupt\n")
        self.assertFailed(child.ask("7", payload="cancelled"), "^CancelledError\n")
        self.assertDone(child.ask("8", payload="stop the loop"), "fine")
        self.assertDone(child.ask("9", payload="cancel all"), "fine")
        self.assertFailed(child.ask("10", payload="nan"), "^ResultError: result is nan")
        self.assertFailed(child.ask("11", payload="set"), "^ResultError: result is of type set")
        self.assertDone(child.ask("12"), "fine")
        self.assertEnds(child)

    def test_cancelled_by_another_before_it_begins(self):
        # Both come in one block. Where tasks start eagerly, the second has not been created yet and runs.
        child = self.start(
            """
            import asyncio
            @task
            async def t(p):
                if p:
                    for other in asyncio.all_tasks() - {asyncio.current_task()}: other.cancel()
                return "ran"
            """
        )
        child.send(request("1", payload=True), request("2", payload=False))
        self.assertDone(child.receive(), "ran")
        reply = child.receive()
        self.assertEqual(reply["task_id"], "2")
        if reply["error"]:
            self.assertFailed(reply, "^CancelledError")
        self.assertEnds(child)
        self.assertNoMoreLines(child)

    def test_exit_in_a_callback(self):
        child = self.start(
            """
            import asyncio, sys
            @task
            async def t(p):
                asyncio.get_running_loop().call_soon(sys.exit, 5)
                await asyncio.sleep(0.01)
                return "survived"
            """
        )
        self.assertDone(child.ask("1"), "survived")

    def test_exception_groups(self):
        child = self.start(
            """
            import asyncio
            async def bad(exc): raise exc
            @task
            async def t(p):
                if not hasattr(asyncio, "TaskGroup"): return "too old"
                async with asyncio.TaskGroup() as group:
                    group.create_task(bad(Permanent("gone") if p == "permanent" else Retry("busy", delay=4)))
            """
        )
        reply = child.ask("1", payload="permanent")
        if reply["result"] == "too old":
            self.skipTest("no TaskGroup before Python 3.11")
        self.assertFailed(reply, "ExceptionGroup: .*\n(.*\n)*.*gone", retry=False)
        self.assertEqual(child.ask("2", payload="retry")["retry_delay"], 4.0)

    def test_sync_child_of_a_fork_does_not_answer(self):
        child = self.start(
            """
            import os
            @task
            async def t(p):
                pid = os.fork()
                if pid == 0: return "the child's"
                os.waitpid(pid, 0)
                return "the parent's"
            """
        )
        self.assertDone(child.ask("1"), "the parent's")
        self.assertEnds(child)
        self.assertNoMoreLines(child)

    def test_ctrl_c_ends_the_process(self):
        child = self.start("import asyncio\n@task\nasync def t(p): await asyncio.sleep(3600)")
        child.task("1")
        child.send({"ping": 1})
        child.receive()
        child.process.send_signal(signal.SIGINT)
        self.assertExits(child, 130)
        self.assertNotInStderr("Traceback", child)


class Cancel(ChildCase):
    SOURCE = """
        import asyncio
        @task
        async def t(p, ctx):
            try:
                print("begun", flush=True)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if p == "swallow": return ["kept", ctx.cancelled]
                raise
            finally:
                print("cleaned up", flush=True)
        """

    def test_running_task(self):
        child = self.start(self.SOURCE)
        child.task("1")
        child.wait_stderr("begun")
        child.send({"cancel": "1"})
        self.assertFailed(child.receive(), r"^Cancelled: (.*\n)*.*CancelledError", retry=True)
        child.wait_stderr("cleaned up")

    def test_a_handler_may_answer_all_the_same(self):
        child = self.start(self.SOURCE)
        child.task("1", payload="swallow")
        child.wait_stderr("begun")
        child.send({"cancel": "1"})
        self.assertDone(child.receive(), ["kept", True])

    def test_before_its_first_step(self):
        # The loop is held until request and cancel have both come: the task is created and cancelled in one turn.
        child = self.start(
            self.SOURCE
            + """
        @task("hold")
        async def hold(p):
            print("holding", flush=True)
            open(p).close()
        """
        )
        fifo = self.fifo()
        child.task("0", "hold", fifo)
        child.wait_stderr("holding")
        child.send(request("1"), {"cancel": "1"}, {"cancel": "1"}, {"ping": 1})
        self.assertEqual(child.receive()["pong"], 1)
        os.close(os.open(fifo, os.O_WRONLY))
        self.assertDone(child.receive(), None)
        self.assertFailed(child.receive(), "^Cancelled: ", retry=True)
        self.assertEnds(child)
        self.assertNoMoreLines(child)
        self.assertNotInStderr("begun", child)


class Lag(ChildCase):
    def lag(self, child):
        child.send({"ping": 1})
        return child.receive()["lag"]

    def test_a_free_loop_and_a_blocked_one(self):
        # The handler blocks the loop until the test opens a pipe, so that no length of time is assumed.
        child = self.start(
            """
            import os
            @task
            async def t(p):
                path, = p
                print("begun", flush=True)
                open(path).close()
                return 1
            """
        )
        fifo = self.fifo()
        child.task("1", payload=[fifo])
        child.wait_stderr("begun")
        seen = self.lag(child)
        while seen < 1.0:  # ends: it grows as long as the loop is blocked, and pongs come from another thread
            more = self.lag(child)
            self.assertGreaterEqual(more, seen, "lag of a loop that is still blocked")
            seen = more
        os.close(os.open(fifo, os.O_WRONLY))
        self.assertDone(child.receive(), 1)
        # At its next tick the loop knows how late it was; the one after is on time again.
        while self.lag(child) > 0.5:
            pass

    def test_cancelling_everything_does_not_stop_the_measurement(self):
        child = self.start(
            """
            import asyncio
            @task
            async def t(p):
                for other in asyncio.all_tasks() - {asyncio.current_task()}: other.cancel()
                await asyncio.sleep(1.3)
                return 1
            """
        )
        self.assertDone(child.ask("1"), 1)
        self.assertLess(self.lag(child), 0.7, "lag, in seconds")

    def test_blocked_by_a_synchronous_handler_beside_it(self):
        child = self.start(
            """
            import threading
            @task("s")
            def s(p): threading.Event().wait()
            @task("a")
            async def a(p): return 1
            """
        )
        child.task("1", "s")
        self.assertDone(child.ask("2", "a"), 1)
        self.assertLess(self.lag(child), 5, "lag, in seconds")


if __name__ == "__main__":
    unittest.main()
