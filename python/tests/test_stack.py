"""The stacks that the worker asks for: those of threads by a signal, those of asyncio tasks by a message."""

import os
import select
import sys
import time
import unittest

from harness import TIMEOUT, ChildCase, environment

SIGNAL = 50


@unittest.skipUnless(sys.platform == "linux", "the worker asks with a signal on Linux only")
class Threads(ChildCase):
    def begin(self, source, ready=True):
        """A child that has the pipe, and the end of the pipe to read."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.addCleanup(os.close, read)
        env = environment(RUNQY_STACK_SIGNAL=str(SIGNAL), RUNQY_STACK_FD=str(write))
        try:
            return self.start(source, ready, env=env, pass_fds=(write,)), read
        finally:
            os.close(write)

    def assertWritten(self, pipe, *texts):
        """All of these are written to the pipe."""
        got, end = "", time.monotonic() + TIMEOUT
        while not all(text in got for text in texts):
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                self.fail(f"not all of {texts} came; what came: {got!r}")
            data = os.read(pipe, 1 << 16)
            self.assertTrue(data, f"the pipe was closed; what came: {got!r}")
            got += data.decode()

    def test_of_a_handler(self):
        child, pipe = self.begin(
            """
            @task
            def hang(p):
                print("begun", flush=True)
                open(p).close()
                return "went on"
            """
        )
        path = self.fifo()
        child.task("1", payload=path)
        child.wait_stderr("begun")
        os.kill(child.process.pid, SIGNAL)
        self.assertWritten(pipe, "(most recent call first):\n", " in hang\n", " in _read\n")
        os.close(os.open(path, os.O_WRONLY))
        self.assertDone(child.receive(), "went on")
        self.assertEnds(child)

    def test_while_it_loads_and_c_code_holds_the_lock_of_the_interpreter(self):
        path = self.fifo()
        child, pipe = self.begin(
            f"""
            import ctypes, os
            @load
            def setup():
                print("loading", flush=True)
                ctypes.PyDLL(None).open({path.encode()!r}, os.O_RDONLY)
            @task
            def t(p): return None
            """,
            ready=False,
        )
        child.wait_stderr("loading")
        os.kill(child.process.pid, SIGNAL)
        self.assertWritten(pipe, " in setup\n")
        os.close(os.open(path, os.O_WRONLY))
        child.ready()
        self.assertEnds(child)

    def test_of_nothing_that_a_handler_starts(self):
        child, pipe = self.begin(
            """
            import os, signal, subprocess
            @task("fork")
            def fork(p):
                pid = os.fork()
                if pid == 0:
                    os.kill(os.getpid(), %d)  # not caught any more
                    os._exit(0)
                return os.WTERMSIG(os.waitpid(pid, 0)[1])
            @task("environment")
            def environment(p):
                return subprocess.run(["env"], stdout=subprocess.PIPE).stdout.decode()
            """
            % SIGNAL
        )
        self.assertDone(child.ask("1", "fork"), SIGNAL)
        self.assertNotIn("RUNQY_STACK", child.ask("2", "environment")["result"])
        os.kill(child.process.pid, SIGNAL)
        self.assertWritten(pipe, " in _serve_sync\n", " in <module>\n")
        self.assertEnds(child)

    def test_a_fork_of_a_fork_keeps_its_files(self):
        child, _ = self.begin(
            """
            import os
            @task("fork")
            def fork(p):
                pid = os.fork()
                if pid:
                    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])
                mine = os.pipe() + os.pipe()  # may have the numbers of what the fork has closed
                pid = os.fork()
                if pid:
                    os._exit(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
                try:
                    for descriptor in mine:
                        os.fstat(descriptor)
                except OSError:
                    os._exit(1)
                os._exit(0)
            """
        )
        self.assertDone(child.ask("1", "fork"), 0)
        self.assertEnds(child)

    def test_a_handler_of_the_task_file_is_left_alone(self):
        child, _ = self.begin(
            """
            import signal
            caught = []
            signal.signal(%d, lambda *_: caught.append(1))
            @task
            def t(p):
                signal.raise_signal(%d)
                return caught
            """
            % (SIGNAL, SIGNAL)
        )
        self.assertDone(child.ask("1"), [1])
        self.assertEnds(child)

    def test_what_the_worker_did_not_give_is_not_used(self):
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        for name, descriptor in (("closed", 9), ("blocking", write), ("not to write", read), ("no number", "x")):
            with self.subTest(name):
                env = environment(RUNQY_STACK_SIGNAL=str(SIGNAL), RUNQY_STACK_FD=str(descriptor))
                passed = (descriptor,) if descriptor in (read, write) else ()
                child = self.start("@task\ndef t(p): return None\n", env=env, pass_fds=passed)
                with open(f"/proc/{child.process.pid}/status") as status:
                    caught = next(line.split()[1] for line in status if line.startswith("SigCgt"))
                self.assertFalse(int(caught, 16) & 1 << SIGNAL - 1, "the signal is caught")
                self.assertEnds(child)


class Answers(ChildCase):
    def stacks(self, child, number=1):
        """What the child answers, as a list of its stacks: the head, and the functions from the innermost on."""
        child.send({"stack": number})
        answer = child.receive()
        self.assertEqual(list(answer), ["stack", "text"])
        self.assertEqual(answer["stack"], number)
        stacks = []
        for line in answer["text"].splitlines():
            if line.endswith(" (most recent call first):"):
                stacks.append((line[: -len(" (most recent call first):")], []))
            else:
                stacks[-1][1].append(line.rsplit(" in ", 1)[-1].strip())
        return stacks

    def waiting_stacks(self, child):
        """The stacks once no handler takes a step."""
        end = time.monotonic() + TIMEOUT
        while True:
            stacks = dict(self.stacks(child))
            if stacks.get("thread MainThread", [""])[0] == "select":
                return stacks
            self.assertLess(time.monotonic(), end, f"a handler still runs: {stacks}")

    def test_of_a_handler(self):
        child = self.start(
            """
            @task
            def hang(p):
                print("begun", flush=True)
                open(p).close()
            """
        )
        self.assertEqual([head for head, _ in self.stacks(child)], ["thread MainThread"])
        path = self.fifo()
        child.task('a "quoted" id', payload=path)
        child.wait_stderr("begun")
        ((head, calls),) = self.stacks(child)
        self.assertEqual(head, 'thread MainThread, task "a \\"quoted\\" id"')
        self.assertEqual(calls[:2], ["hang", "_execute"])
        self.assertEqual(calls[-1], "<module>")
        os.close(os.open(path, os.O_WRONLY))
        self.assertDone(child.receive(), None)
        self.assertEnds(child)

    def test_of_asyncio_tasks(self):
        child = self.start(
            """
            import asyncio
            async def inner():
                print("begun", flush=True)
                await asyncio.Event().wait()
            async def generated():
                await inner()
                yield 1
            @task("never")
            async def never(p):
                async for _ in generated():
                    pass
            @task("joins")
            async def joins(p):
                await asyncio.ensure_future(inner())
            """
        )
        child.task("1", "never")
        child.wait_stderr("begun")
        stacks = self.waiting_stacks(child)
        self.assertEqual(list(stacks), ["thread MainThread", 'asyncio task "1"'])
        self.assertEqual(stacks['asyncio task "1"'], ["wait", "inner", "generated", "never", "_serve"])
        child.send({"cancel": "1"})
        self.assertFailed(child.receive(), "^Cancelled")

        child.task("2", "joins")
        child.wait_stderr("begun\nbegun")
        stacks = self.waiting_stacks(child)
        waits, *calls = stacks.pop('asyncio task "2"')
        self.assertEqual(calls, ["joins", "_serve"])
        self.assertEqual(stacks[waits.replace("waiting for ", "")], ["wait", "inner"])
        child.send({"cancel": "2"})
        self.assertFailed(child.receive(), "^Cancelled")
        self.assertEnds(child)

    def test_of_a_blocked_loop(self):
        for more, name in (("", "MainThread"), ("\n@task('sync')\ndef s(p): pass\n", "runqy-loop")):
            with self.subTest(name):
                child = self.start(
                    """
@task("blocks")
async def blocks(p):
    print("begun", flush=True)
    open(p).close()
"""
                    + more
                )
                path = self.fifo()
                child.task("1", "blocks", path)
                child.wait_stderr("begun")
                head, calls = next(stack for stack in self.stacks(child) if "task" in stack[0])
                self.assertEqual(head, f'thread {name}, task "1"')
                self.assertEqual(calls[0], "blocks")
                os.close(os.open(path, os.O_WRONLY))
                self.assertDone(child.receive(), None)
                self.assertEnds(child)


if __name__ == "__main__":
    unittest.main()
