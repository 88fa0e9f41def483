"""The health bench's tasks for the SDK. HEALTH_BENCH_LOAD: how many seconds the process takes to be ready;
HEALTH_BENCH_CHECK: whether it has a check of its own health, for which the switch decides how it answers."""

import os
import time

import faults

import runqy

for name, function in faults.TASKS.items():
    runqy.task(name)(function)


@runqy.load
def load():
    time.sleep(float(os.environ.get("HEALTH_BENCH_LOAD", "0")))


def check():
    word = faults.switch()
    if word == "check fails":
        return "the licence has run out"
    if word == "check hangs":
        time.sleep(3600)
    if word == "check flaps" and int(time.monotonic() / 2) % 2:
        return "the licence server does not answer now and then"
    faults.needs_descriptor(None)
    return True


if os.environ.get("HEALTH_BENCH_CHECK") and hasattr(runqy, "health"):
    runqy.health(check)

if __name__ == "__main__":
    runqy.run()
