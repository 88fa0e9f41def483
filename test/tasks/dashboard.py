"""Handlers that give the dashboard something to show: quick and slow ones, with progress, failures and a crash."""

import asyncio
import logging
import os
import random
import signal

from runqy import load, progress, run, task

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
log = logging.getLogger("images")
chance = random.Random(7)


@load
async def load_model():
    log.info("loading model resnet50-int8")
    await asyncio.sleep(0.3)
    log.info("model loaded on cpu, 4 labels")


def read(payload):
    if payload.get("broken"):
        raise ValueError(f"image {payload['image']} is truncated (14 bytes not processed)")


@task("classify")
async def classify(payload):
    await asyncio.sleep(chance.lognormvariate(-1.9, 0.6))
    read(payload)
    return {"label": "cat"}


@task("welcome")
async def welcome(payload):
    await asyncio.sleep(chance.uniform(0.02, 0.12))


@task("fine-tune")
async def fine_tune(payload):
    for step in range(payload["steps"]):
        progress(
            step / payload["steps"],
            f"epoch {1 + step * 10 // payload['steps']} of 10, loss {0.9 / (1 + step / 20):.3f}",
        )
        await asyncio.sleep(1)


@task("exhaust")
async def exhaust(payload):
    """Ends as the kernel ends a process that takes too much memory."""
    log.info("batch of 512 images, 4.2 GiB")
    log.warning("memory is at 97 %% of the machine's %d GiB", 16)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run()
