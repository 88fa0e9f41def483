"""Handlers for the tests of the fleet: each run writes to a file which worker runs it and when."""

import os
import time

from runqy import Retry, run, task


def say(payload, ctx, word):
    line = f"{word} {ctx.task_id} {os.environ['WORKER']} {time.time():.3f}\n"
    with open(payload["file"], "a") as f:
        f.write(line)


@task("hold")
def hold(payload, ctx):
    """Waits for a file to appear and returns the worker's name."""
    say(payload, ctx, "start")
    while not os.path.exists(payload["gate"]):
        time.sleep(0.1)
    say(payload, ctx, "end")
    return os.environ["WORKER"]


@task("who")
def who(payload, ctx):
    say(payload, ctx, "start")
    return os.environ["WORKER"]


@task("later")
def later(payload, ctx):
    """Asks at its first run to be run again."""
    say(payload, ctx, "start")
    if ctx.retry_count == 0:
        raise Retry("not now", delay=payload["delay"])
    return os.environ["WORKER"]


if __name__ == "__main__":
    run()
