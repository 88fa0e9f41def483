"""One file with synchronous and asynchronous handlers."""

import asyncio
import os
import time

from runqy import run, task


@task("note")
def note(payload, ctx):
    """Leaves a line in a file for each time it runs, then waits."""
    with open(payload["file"], "a") as f:
        f.write(f"{ctx.task_id} {ctx.retry_count}\n")
    time.sleep(payload.get("seconds", 0))
    return payload.get("n")


@task("fetch")
async def fetch(payload):
    await asyncio.sleep(payload["seconds"])
    return "fetched"


@task("hold")
def hold(payload, ctx):
    """Leaves a line in a file, then waits for another file to appear."""
    with open(payload["file"], "a") as f:
        f.write(ctx.task_id + "\n")
    while not os.path.exists(payload["gate"]):
        time.sleep(0.05)


@task("watch")
async def watch(payload):
    """Waits for a file to appear."""
    while not os.path.exists(payload["gate"]):
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    run()
