"""The sample tasks of `runqy-worker demo`. docs/python.md tells how to write your own."""

import asyncio

from runqy import Permanent, Retry, log, progress, run, task


@task("fast")
def fast(payload, ctx):
    return {"n": payload["n"], "square": payload["n"] ** 2, "attempts": ctx.retry_count + 1}


@task("slow")
async def slow(payload, ctx):
    seconds = payload.get("seconds", 0.3)
    for step in range(10):
        progress(step / 10, f"step {step + 1} of 10")
        await asyncio.sleep(seconds / 10)
    progress(1, "all steps done")
    log.info("slept", extra={"seconds": seconds})
    return {"n": payload["n"], "attempts": ctx.retry_count + 1}


@task("failing")
def failing(payload):
    raise Permanent("this task fails on purpose")


@task("retrying")
def retrying(payload, ctx):
    if ctx.retry_count == 0:
        raise Retry("the first attempt fails on purpose", delay=1)
    return {"n": payload["n"], "attempts": ctx.retry_count + 1}


if __name__ == "__main__":
    run()
