"""Asynchronous handlers for the end-to-end tests."""

import asyncio
import os
import signal
import time

from runqy import Permanent, run, task


@task("echo")
async def echo(payload):
    return payload


@task("wait")
async def wait(payload):
    try:
        await asyncio.sleep(payload["seconds"])
    except asyncio.CancelledError:
        with open(payload["file"], "a") as f:
            f.write("cancelled\n")
        raise
    return "waited"


@task("block")
async def block(payload):
    time.sleep(payload["seconds"])  # what a handler must not do
    return "blocked"


@task("note")
async def note(payload, ctx):
    """Leaves a line in a file for each time it runs, then waits."""
    with open(payload["file"], "a") as f:
        f.write(f"{ctx.task_id} {ctx.retry_count}\n")
    await asyncio.sleep(payload.get("seconds", 0))
    return payload.get("n")


@task("die")
async def die(payload):
    await asyncio.sleep(payload["seconds"])
    os.kill(os.getpid(), signal.SIGKILL)


@task("when_cancelled")
async def when_cancelled(payload, ctx):
    """Runs until it is cancelled or overdue, and then ends as its payload says."""
    with open(payload["file"], "a") as f:
        f.write(ctx.task_id + "\n")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)  # what it still has to do
    if payload["end"] == "permanent":
        raise Permanent("never again")
    if payload["end"] == "error":
        raise ValueError("not finished")
    return "finished"


@task("stubborn")
async def stubborn(payload):
    """Ignores that it is cancelled, for ever."""
    with open(payload["file"], "a") as f:
        f.write("started\n")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


if __name__ == "__main__":
    run()
