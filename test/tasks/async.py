"""Asynchronous handlers for the end-to-end tests."""

import asyncio
import time

from runqy import run, task


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
