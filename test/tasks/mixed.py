"""One file with synchronous and asynchronous handlers."""

import asyncio
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


if __name__ == "__main__":
    run()
