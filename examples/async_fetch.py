"""Handlers that wait more than they compute: they run side by side, up to the worker's concurrency.

    runqy-worker enqueue inference_default fetch '{"url": "http://localhost:8001/livez"}' --wait

With aiohttp or httpx installed, open one session in an `async def` @load and use it as ctx.loaded.
"""

import asyncio
import urllib.error
import urllib.request

from runqy import Permanent, Retry, run, task


def get(url, timeout):
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.status, response.read()


@task("fetch")
async def fetch(payload, ctx):
    url = payload["url"]
    if not url.startswith(("http://", "https://")):
        raise Permanent(f"not an http URL: {url}")
    left = ctx.remaining()  # seconds until the task's deadline, None without one
    timeout = 30.0 if left is None else max(0.1, min(30.0, left))
    try:
        # In a thread, since urllib blocks. A blocked event loop stops every task and makes the worker unhealthy.
        status, body = await asyncio.get_running_loop().run_in_executor(None, get, url, timeout)
    except urllib.error.HTTPError as exc:
        if exc.code == 429:
            wait = exc.headers.get("Retry-After", "")
            raise Retry(f"rate limited by {url}", delay=int(wait) if wait.isdigit() else 60) from exc
        if 400 <= exc.code < 500:
            raise Permanent(f"{url} answers {exc.code}") from exc
        raise  # a server's error: tried again, later and later
    return {"url": url, "status": status, "bytes": len(body)}


@task("sleep")
async def sleep(payload):
    await asyncio.sleep(payload["seconds"])
    return {"slept": payload["seconds"]}


if __name__ == "__main__":
    run()
