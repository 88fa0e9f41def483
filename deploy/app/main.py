"""The tasks of deploy/compose.yaml."""

import time

from runqy import task, run


@task("greet")
def greet(payload):
    return {"greeting": f"Hello, {payload.get('name', 'stranger')}!"}


@task("sleep")
def sleep(payload):
    seconds = float(payload["seconds"])
    time.sleep(seconds)
    return {"slept": seconds}


if __name__ == "__main__":
    run()
