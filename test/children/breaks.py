"""With the SDK: a task of type break says that the process is broken; others answer with the pid of the process, those of type wait
when the file named first is there. Every task that begins is written to standard error. --async: all handlers are asynchronous."""
import asyncio
import os
import sys
import time

from runqy import Broken, run, task

path = sys.argv[1]


def began(ctx):
    sys.stderr.write(f"began {ctx.task_id}\n")


if "--async" in sys.argv:

    @task("break")
    async def break_(payload, ctx):
        began(ctx)
        raise Broken("CUDA error: an illegal memory access was encountered")

    @task("wait")
    async def wait(payload, ctx):
        began(ctx)
        while not os.path.exists(path):
            await asyncio.sleep(0.005)
        return os.getpid()

    @task
    async def pid(payload, ctx):
        began(ctx)
        return os.getpid()

else:

    @task("break")
    def break_(payload, ctx):
        began(ctx)
        while payload and not os.path.exists(path):
            time.sleep(0.005)
        raise Broken("CUDA error: an illegal memory access was encountered")

    @task("wait")
    def wait(payload, ctx):
        began(ctx)
        while not os.path.exists(path):
            time.sleep(0.005)
        return os.getpid()

    @task
    def pid(payload, ctx):
        began(ctx)
        return os.getpid()


if __name__ == "__main__":
    run()
