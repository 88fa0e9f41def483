"""Asynchronous handlers for the tests of the fleet: as those of fleet.py, and any number of them runs at once."""

import asyncio
import os
import time

from runqy import run, task

gates = {}


def say(payload, ctx, word):
    line = f"{word} {ctx.task_id} {os.environ['WORKER']} {time.time():.3f}\n"
    with open(payload["file"], "a") as f:
        f.write(line)


async def look(path):
    while not os.path.exists(path):
        await asyncio.sleep(0.1)


@task("hold")
async def hold(payload, ctx):
    """Waits for a file to appear and returns the worker's name."""
    say(payload, ctx, "start")
    path = payload["gate"]
    if path not in gates:  # thousands of tasks may wait: one looks
        gates[path] = asyncio.ensure_future(look(path))
    await asyncio.shield(gates[path])
    say(payload, ctx, "end")
    return os.environ["WORKER"]


@task("who")
async def who(payload, ctx):
    say(payload, ctx, "start")
    return os.environ["WORKER"]


@task("span")
async def span(payload, ctx):
    """Runs for some seconds and returns the worker's name."""
    say(payload, ctx, "start")
    await asyncio.sleep(payload["seconds"])
    say(payload, ctx, "end")
    return os.environ["WORKER"]


if __name__ == "__main__":
    run()
