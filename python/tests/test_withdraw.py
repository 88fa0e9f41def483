"""Tasks that the worker takes back: dropped when they have not begun, and only then."""

import os
import unittest

from harness import ChildCase, request


class Withdraw(ChildCase):
    SOURCE = """
        @task("hold")
        def hold(p):
            print("holding", flush=True)
            open(p).close()
            return "held"
        @task("t")
        def t(p):
            print("ran", flush=True)
            return "ran"
        """

    def hold(self, child):
        """A task that runs until the test opens what is returned."""
        path = self.fifo()
        child.task("0", "hold", path)
        child.wait_stderr("holding")
        return path

    def release(self, path):
        os.close(os.open(path, os.O_WRONLY))

    def test_what_waits_is_dropped(self):
        for kind in ("def", "async def"):
            with self.subTest(kind):
                child = self.start(self.SOURCE.replace("def ", kind + " "))
                self.assertEqual(
                    child.ready_message["features"], ["ping", "cancel", "withdraw", "check", "stack", "broken"]
                )
                path = self.hold(child)
                child.send(request("1"), request("2"), {"withdraw": "1"}, {"withdraw": "1"}, {"cancel": "1"})
                # While the handler still runs: the loop of async handlers is blocked.
                self.assertEqual(child.line(), b'{"withdrawn":"1"}\n')
                self.release(path)
                self.assertDone(child.receive(), "held")
                self.assertDone(child.receive(), "ran")
                self.assertEnds(child)
                self.assertNoMoreLines(child)
                self.assertEqual(child.stderr.count("ran"), 1, "number of tasks that ran")

    def test_what_has_begun_or_is_unknown_goes_on(self):
        for kind in ("def", "async def"):
            with self.subTest(kind):
                child = self.start(self.SOURCE.replace("def ", kind + " "))
                path = self.hold(child)
                child.send({"withdraw": "0"}, {"withdraw": "nobody"}, {"withdraw": ["0"]}, {"ping": 1})
                self.assertEqual(child.receive()["pong"], 1)
                self.release(path)
                self.assertDone(child.receive(), "held")
                child.send({"withdraw": "0"})
                self.assertDone(child.ask("1"), "ran")
                self.assertEnds(child)
                self.assertNoMoreLines(child)

    def test_a_handler_that_waits_has_begun(self):
        child = self.start(
            """
            import asyncio
            go = asyncio.Event()
            @task
            async def t(p):
                if p: go.set()
                print("begun", flush=True)
                await go.wait()
            """
        )
        child.task("1", payload=False)
        child.wait_stderr("begun")
        child.send({"withdraw": "1"}, request("2", payload=True))
        self.assertEqual({child.receive()["task_id"], child.receive()["task_id"]}, {"1", "2"})
        self.assertEnds(child)
        self.assertNoMoreLines(child)

    def test_the_same_id_again(self):
        child = self.start(self.SOURCE)
        path = self.hold(child)
        child.send(request("1"), {"withdraw": "1"}, request("1"))
        self.assertEqual(child.receive(), {"withdrawn": "1"})
        self.release(path)
        self.assertDone(child.receive(), "held")
        self.assertDone(child.receive(), "ran")

    def test_each_gets_one_answer(self):
        # Withdrawn while they are run: some before they begin, most of them not.
        for kind in ("def", "async def"):
            with self.subTest(kind):
                child = self.start(f"@task\n{kind} t(p): return p")
                count = 3000
                for first in range(0, count, 10):
                    ids = [str(number) for number in range(first, first + 10)]
                    child.send(*[request(name) for name in ids])
                    child.send(*[{"withdraw": name} for name in reversed(ids)])
                self.assertEnds(child)
                seen = []
                for _ in range(count):
                    message = child.receive()
                    seen.append(message.get("task_id") or message["withdrawn"])
                self.assertEqual(sorted(seen, key=int), [str(number) for number in range(count)])
                self.assertNoMoreLines(child)


if __name__ == "__main__":
    unittest.main()
