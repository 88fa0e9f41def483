"""Synchronous handlers for the end-to-end tests: one per thing that a task may do."""

import os
import signal
import subprocess
import sys
import time

from runqy import Permanent, Retry, run, task


@task("echo")
def echo(payload):
    return payload


@task("sleep")
def sleep(payload):
    print("sleeping", flush=True)  # standard output is not the protocol's
    time.sleep(payload["seconds"])
    return "slept"


@task("note")
def note(payload, ctx):
    """Leaves a line in a file for each time it runs, then waits."""
    with open(payload["file"], "a") as f:
        f.write(f"{ctx.task_id} {ctx.retry_count}\n")
    time.sleep(payload.get("seconds", 0))
    return payload.get("n")


@task("spin")
def spin(payload):
    end, turns = time.monotonic() + payload["seconds"], 0
    while time.monotonic() < end:
        turns += 1
    return turns > 0


@task("hold_gil")
def hold_gil(payload):
    """Seconds of C code that never lets go of the interpreter."""
    n, took, calls = 1 << 20, 0.0, 0
    while took < 0.25:  # find out how much this machine sums up in a quarter of a second
        n *= 2
        start = time.monotonic()
        sum(range(n))
        took = time.monotonic() - start
    start = time.monotonic()
    sum(range(int(n * payload["seconds"] / took)))
    return time.monotonic() - start


@task("children")
def children(payload):
    """Starts processes that would outlive anything: one in a session of its own, one whose parent is gone."""
    own = subprocess.Popen(["sleep", "600"])
    session = subprocess.Popen(["sleep", "600"], start_new_session=True)
    orphan = subprocess.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True)
    pids = [os.getpid(), own.pid, session.pid, int(orphan.stdout)]
    with open(payload["file"] + ".new", "w") as f:
        f.write(" ".join(map(str, pids)))
    os.rename(payload["file"] + ".new", payload["file"])
    time.sleep(payload["seconds"])


@task("boom")
def boom(payload):
    raise ValueError("boom: " + payload.get("text", ""))


@task("permanent")
def permanent(payload):
    raise Permanent("never again")


@task("later")
def later(payload, ctx):
    if ctx.retry_count == 0:
        raise Retry("not now", delay=payload["delay"])
    return "now"


@task("remaining")
def remaining(payload, ctx):
    """Returns how many seconds its deadline leaves it when it begins."""
    return ctx.remaining()


@task("when_cancelled")
def when_cancelled(payload, ctx):
    """Runs until it is cancelled or overdue, and then ends as its payload says."""
    with open(payload["file"], "a") as f:
        f.write(ctx.task_id + "\n")
    while not ctx.cancelled:
        time.sleep(0.02)
    if payload["end"] == "permanent":
        raise Permanent("never again")
    if payload["end"] == "error":
        raise ValueError("not finished")
    return "finished"


@task("die")
def die(payload):
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@task("environ")
def environ(payload):
    return dict(os.environ)


@task("nan")
def nan(payload):
    return {"x": float("nan")}


@task("size")
def size(payload):
    return len(payload["data"])


@task("pid")
def pid(payload):
    return os.getpid()


@task("headers")
def headers(payload, ctx):
    return {"headers": ctx.headers, "queue": ctx.queue, "deadline": ctx.deadline is not None}


if __name__ == "__main__":
    run()
