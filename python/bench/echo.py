"""How many echo tasks a second the SDK answers over pipes, and what each costs.

    python3 python/bench/echo.py [--tasks N] [--window N] [--handler sync|async] [--payload BYTES] [--stacks]

A driver in this process keeps `window` tasks in flight, as a worker with that concurrency does: it writes as many
requests as replies came back, in one write. The driver shares the machine with the child, so the figure is a floor. With --stacks the child has the worker's signal for its stacks registered.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import threading
import time

try:
    from fcntl import F_SETPIPE_SZ, fcntl
except ImportError:  # before Python 3.10, or not Linux
    F_SETPIPE_SZ = None

CHILD = {
    "sync": "from runqy import run, task\n@task\ndef echo(payload):\n    return payload\nrun()\n",
    "async": "from runqy import run, task\n@task\nasync def echo(payload):\n    return payload\nrun()\n",
}


def request(size):
    """A task line of the shape that the worker writes, about 200 bytes; size is how long the payload's text is."""
    text = b"hello" if size == 0 else b"x" * size
    return (
        b'{"task_id":"0123456789abcdef","type":"echo","payload":{"text":"%b","n":1234567},"retry_count":0,'
        b'"max_retry":25,"queue":"inference_default","deadline":"2030-01-01T00:00:00Z","headers":{}}\n' % text
    )


def drive(child, line, tasks, window):
    """Have the child, which is ready, do the tasks; returns the seconds that they took."""
    out, into = child.stdout.fileno(), child.stdin.fileno()
    free = threading.Semaphore(window)

    def write():
        left = tasks
        while left:
            free.acquire()
            count = 1
            while count < left and free.acquire(False):
                count += 1
            left -= count
            view = memoryview(line * count)
            while view:
                view = view[os.write(into, view) :]

    writer = threading.Thread(target=write)
    begun = time.perf_counter()
    writer.start()
    done = 0
    while done < tasks:
        got = os.read(out, 1 << 20).count(b"\n")
        done += got
        if got:
            free.release(got)
    took = time.perf_counter() - begun
    writer.join()
    return took


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    with open(f"/proc/{pid}/status") as status:
        return any(int(line.split()[1], 16) >> (number - 1) & 1 for line in status if line.startswith("SigCgt"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200000)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--handler", choices=sorted(CHILD), default="sync")
    parser.add_argument("--payload", type=int, default=0, metavar="BYTES")
    parser.add_argument("--stacks", action="store_true")
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env, passed = dict(os.environ, PYTHONPATH=root), ()
    if options.stacks:
        read, write = os.pipe()  # read stays open, as the worker's end does
        os.set_blocking(write, False)
        env.update(RUNQY_STACK_SIGNAL=str(int(signal.SIGRTMIN) + 6), RUNQY_STACK_FD=str(write))
        passed = (write,)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD[options.handler]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=env,
        pass_fds=passed,
    )
    if F_SETPIPE_SZ is not None:  # as the worker does
        for stream in (child.stdin, child.stdout):
            fcntl(stream, F_SETPIPE_SZ, 1 << 20)
    data = b""
    while b'"ready"' not in data:
        data += os.read(child.stdout.fileno(), 65536)
    if options.stacks and not catches(child.pid, int(signal.SIGRTMIN) + 6):
        sys.exit("the signal is not registered")
    took = drive(child, request(options.payload), options.tasks, options.window)
    child.stdin.close()
    status = child.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{options.handler} echo, {options.tasks} tasks, window {options.window}: {took:.2f} s, "
        f"{options.tasks / took:.0f} tasks/s, {(usage.ru_utime + usage.ru_stime) / options.tasks * 1e6:.1f} us CPU each "
        f"(the start included), exit status {status}"
    )


if __name__ == "__main__":
    main()
