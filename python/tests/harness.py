"""A task file as a real process, driven over pipes as the worker does it."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(SDK)
# Seconds. Far longer than anything takes, so that only a hang fails: the machine may be loaded.
TIMEOUT = 60


def environment(**extra):
    env = dict(os.environ, PYTHONPATH=SDK, PYTHONDONTWRITEBYTECODE="1")
    env.pop("PYTHONUNBUFFERED", None)  # decides where a print before run() goes
    env.update(extra)
    return env


def _default_sigint():
    # A shell has what it runs in the background ignore SIGINT, and that is inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Child:
    """The process. Its replies are read as they come; its standard error is kept."""

    def __init__(self, source, path=None, env=None, command=None, pass_fds=()):
        if path is None and command is None:
            command = [sys.executable, "-c", textwrap.dedent(source)]
        elif command is None:
            command = [sys.executable, path]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env or environment(),
            preexec_fn=_default_sigint,
            pass_fds=pass_fds,
        )
        self.lines = queue.Queue()
        self._stderr = []
        self._stderr_grew = threading.Condition()
        self._threads = [threading.Thread(target=self._read_out), threading.Thread(target=self._read_err)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _read_out(self):
        with os.fdopen(os.dup(self.process.stdout.fileno()), "rb") as stream:
            for line in stream:
                if line.strip():
                    self.lines.put(line)
        self.lines.put(None)

    def _read_err(self):
        with os.fdopen(os.dup(self.process.stderr.fileno()), "rb") as stream:
            for line in stream:
                with self._stderr_grew:
                    self._stderr.append(line.decode("utf-8", "replace"))
                    self._stderr_grew.notify_all()

    @property
    def stderr(self):
        return "".join(self._stderr)

    def wait_stderr(self, text):
        with self._stderr_grew:
            if not self._stderr_grew.wait_for(lambda: text in self.stderr, TIMEOUT):
                raise AssertionError(f"{text!r} never came on standard error, which is: {self.stderr}")

    def raw(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.process.stdin.fileno(), view) :]

    def send(self, *messages):
        self.raw(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def task(self, task_id, kind="t", payload=None, **extra):
        self.send(request(task_id, kind, payload, **extra))

    def line(self):
        try:
            line = self.lines.get(timeout=TIMEOUT)
        except queue.Empty:
            raise AssertionError(f"no line within {TIMEOUT} s; standard error: {self.stderr}")
        if line is None:
            raise AssertionError(f"standard output ended; standard error: {self.stderr}")
        return line

    def receive(self):
        return json.loads(self.line())

    def ready(self):
        message = self.receive()
        if message.get("status") != "ready":
            raise AssertionError(f"not ready: {message!r}; standard error: {self.stderr}")
        return message

    def ask(self, task_id, kind="t", payload=None, **extra):
        self.task(task_id, kind, payload, **extra)
        reply = self.receive()
        if reply.get("task_id") != task_id:
            raise AssertionError(f"asked for {task_id!r}, got {reply!r}")
        return reply

    def end(self):
        """Closes standard input and returns the exit status; the lines that came until then are kept."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        return self.wait()

    def wait(self):
        status = self.process.wait(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)
        return status

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


def request(task_id, kind="t", payload=None, **extra):
    message = {
        "task_id": task_id,
        "type": kind,
        "payload": payload,
        "retry_count": 0,
        "max_retry": 25,
        "queue": "inference_default",
        "deadline": None,
        "headers": {},
    }
    message.update(extra)
    return message


class ChildCase(unittest.TestCase):
    HEAD = "from runqy import Context, Permanent, Retry, load, run, task\n"

    def start(self, source, ready=True, **options):
        """A child with this task file; `run()` is appended. Waits until it is ready, unless ready is false."""
        child = Child(self.HEAD + textwrap.dedent(source) + "\nrun()\n", **options)
        self.addCleanup(child.kill)
        if ready:
            child.ready_message = child.ready()
        return child

    def fifo(self):
        """A named pipe: a handler that opens it to read stands still until the test opens it to write."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "fifo")
        os.mkfifo(path)
        return path

    def assertDone(self, reply, result):
        got = (reply["result"], reply["error"], reply["retry"])
        self.assertEqual(got, (result, None, False), f"result, error and retry of the reply {reply}")

    def assertFailed(self, reply, pattern, retry=True):
        self.assertIsNone(reply["result"], f"result of the reply {reply}")
        self.assertRegex(reply["error"] or "", pattern, f"error of the reply {reply}")
        self.assertIs(reply["retry"], retry, f"retry of the reply {reply}")

    def assertEnds(self, child, status=0):
        """The child exits with this status when its standard input ends."""
        self.assertEqual(child.end(), status, f"exit status; standard error: {child.stderr}")

    def assertExits(self, child, status):
        """The child exits with this status by itself."""
        self.assertEqual(child.wait(), status, f"exit status; standard error: {child.stderr}")

    def assertNoMoreLines(self, child):
        """The child, which has exited, wrote nothing that was not received."""
        self.assertIsNone(child.lines.get(timeout=TIMEOUT), "a line that should not have been written")

    def assertInStderr(self, text, child):
        """The child has written this to standard error; it may not have been read yet."""
        child.wait_stderr(text)

    def assertNotInStderr(self, text, child):
        self.assertNotIn(text, child.stderr, "standard error")
