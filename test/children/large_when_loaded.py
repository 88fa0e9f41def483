"""With the SDK: it takes as many MiB as are named first when it is loaded (--lazily: with its first task), and answers with its pid."""
import os
import sys

from runqy import load, run, task

held = []


def take():
    held.append(b"x" * (int(sys.argv[1]) << 20))


@load
def prepare():
    if "--lazily" not in sys.argv:
        take()


@task
def pid(payload):
    if not held:
        take()
    return os.getpid()


if __name__ == "__main__":
    run()
