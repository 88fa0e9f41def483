"""The tasks of the bench for the SDK: BENCH_HANDLERS says whether the handlers are sync or async."""

import asyncio
import os

from handlers import echo, spin

from runqy import run, task

if os.environ.get("BENCH_HANDLERS") == "async":

    @task("echo")
    async def echo_async(payload):
        return payload

    @task("sleep")
    async def sleep_async(payload):
        await asyncio.sleep(payload["seconds"])
        return payload

else:
    task("echo")(echo)
    task("spin")(spin)

if __name__ == "__main__":
    run()
