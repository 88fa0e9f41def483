"""How many echo tasks a second the SDK answers over pipes.

    python3 python/bench/echo.py [--tasks N] [--window N] [--handler sync|async]

A driver in this process keeps `window` tasks in flight, as a worker with that concurrency does: it writes as many
requests as replies came back, in one write. The driver shares the machine with the child, so the figure is a floor.
"""

import argparse
import os
import subprocess
import sys
import time

CHILD = {
    "sync": "from runqy import run, task\n@task\ndef echo(payload):\n    return payload\nrun()\n",
    "async": "from runqy import run, task\n@task\nasync def echo(payload):\n    return payload\nrun()\n",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200000)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--handler", choices=sorted(CHILD), default="sync")
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD[options.handler]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=dict(os.environ, PYTHONPATH=root),
    )
    # The shape of a real request: about 200 bytes.
    line = (
        b'{"task_id":"0123456789abcdef","type":"echo","payload":{"text":"hello","n":1234567},"retry_count":0,'
        b'"max_retry":25,"queue":"inference_default","deadline":"2030-01-01T00:00:00Z","headers":{}}\n'
    )
    out, into = child.stdout.fileno(), child.stdin.fileno()
    data = b""
    while b'"ready"' not in data:
        data += os.read(out, 65536)
    sent = done = 0
    begun = time.perf_counter()
    while done < options.tasks:
        free = min(options.window - (sent - done), options.tasks - sent)
        if free > 0:
            os.write(into, line * free)
            sent += free
        done += os.read(out, 1 << 20).count(b"\n")
    took = time.perf_counter() - begun
    child.stdin.close()
    status = child.wait()
    print(
        f"{options.handler} echo, {options.tasks} tasks, window {options.window}: {took:.2f} s, "
        f"{options.tasks / took:.0f} tasks/s, exit status {status}"
    )


if __name__ == "__main__":
    main()
