"""Asynchronous tasks of the health bench for the SDK."""

import asyncio
import time

from runqy import run, task


@task("echo")
async def echo(payload):
    return payload


@task("sleep")
async def sleep(payload):
    await asyncio.sleep(payload["seconds"])
    return "slept"


@task("block")
async def block(payload):
    """What an asynchronous handler must not do."""
    time.sleep(payload["seconds"])


if __name__ == "__main__":
    run()
