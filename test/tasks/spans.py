"""Asynchronous handlers for the tests of the fleet: each run writes to a file which worker runs it, from when to when."""

import asyncio
import os
import time

from runqy import run, task


@task("span")
async def span(payload, ctx):
    for word in ("start", "end"):
        line = f"{word} {ctx.task_id} {os.environ['WORKER']} {time.time():.3f}\n"
        with open(payload["file"], "a") as f:
            f.write(line)
        if word == "start":
            await asyncio.sleep(payload["seconds"])
    return os.environ["WORKER"]


if __name__ == "__main__":
    run()
