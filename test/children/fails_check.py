"""With the SDK: its check does what the file named first says, when it is called. No file: it passes; "hang": it does not return
until the file is gone; any other text: it fails with that. Each call writes "check" to standard error, or "overlap" when a
handler runs.

Tasks: echo answers with its payload, fail fails. --async: all handlers are asynchronous, and the check is too."""
import asyncio
import contextlib
import os
import sys
import time

from runqy import health, run, task

path = sys.argv[1]
running = []


def says():
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def said():
    sys.stderr.write("overlap\n" if running else "check\n")
    return says()


@contextlib.contextmanager
def counted():
    running.append(1)
    try:
        yield
    finally:
        running.pop()


if "--async" in sys.argv:

    @health
    async def check():
        text = said()
        while text == "hang":
            await asyncio.sleep(0.01)
            text = says()
        return text

    @task
    async def echo(payload):
        return payload

    @task("sleep")
    async def sleep(payload):
        with counted():
            await asyncio.sleep(payload)

    @task("fail")
    async def fail(payload):
        with counted():
            await asyncio.sleep(0.001)
            raise ValueError(payload)

else:

    @health
    def check():
        text = said()
        while text == "hang":
            time.sleep(0.01)
            text = says()
        return text

    @task
    def echo(payload):
        return payload

    @task("sleep")
    def sleep(payload):
        with counted():
            time.sleep(payload)

    @task("fail")
    def fail(payload):
        raise ValueError(payload)


if __name__ == "__main__":
    os.write(2, b"loaded\n")
    run()
