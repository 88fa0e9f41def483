"""Hangs in the way that its argument names, in a task of type "hang", or while it loads. It says "hanging" on standard
error just before. The line where it hangs is marked with "hangs: " and the name."""

import asyncio
import ctypes
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time

from runqy import load, run, task

KIND = sys.argv[1]
HOUR = 3600


def say():
    print("hanging", flush=True)


def lock():
    held = threading.Lock()
    held.acquire()
    say()
    held.acquire()  # hangs: lock


def receive():
    ours, theirs = socket.socketpair()
    say()
    ours.recv(1)  # hangs: socket
    theirs.close()


def run_program():
    say()
    subprocess.run(["sleep", str(HOUR)])  # hangs: subprocess


def get():
    say()
    queue.Queue().get()  # hangs: queue


def c_with_the_lock():
    reading, _ = os.pipe()
    say()
    ctypes.PyDLL(None).read(reading, ctypes.create_string_buffer(1), 1)  # hangs: c_with_the_gil


def c_without_the_lock():
    reading, _ = os.pipe()
    say()
    ctypes.CDLL(None).read(reading, ctypes.create_string_buffer(1), 1)  # hangs: c_without_the_gil


async def never():
    say()
    await asyncio.get_running_loop().create_future()  # hangs: await


async def block():
    say()
    time.sleep(HOUR)  # hangs: blocked_loop


def deadlock():
    first, second = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)

    def other():
        with second:
            both.wait()
            first.acquire()

    threading.Thread(target=other, daemon=True).start()
    with first:
        both.wait()
        say()
        second.acquire()  # hangs: deadlock


def import_twice():
    # Another thread runs the module's code, for ever, and holds its import lock meanwhile.
    directory = tempfile.mkdtemp()
    with open(os.path.join(directory, "never_imported.py"), "w") as module:
        module.write("import threading\nthreading.Event().wait()\n")
    sys.path.insert(0, directory)
    threading.Thread(target=lambda: __import__("never_imported"), daemon=True).start()
    while "never_imported" not in sys.modules:
        time.sleep(0.001)
    say()
    import never_imported  # hangs: import_lock


def sleep():
    say()
    time.sleep(HOUR)  # hangs: sleep


def load_for_ever():
    say()
    threading.Event().wait()  # hangs: load


HANDLERS = {
    "lock": lock,
    "socket": receive,
    "subprocess": run_program,
    "queue": get,
    "c_with_the_gil": c_with_the_lock,
    "c_without_the_gil": c_without_the_lock,
    "await": never,
    "blocked_loop": block,
    "deadlock": deadlock,
    "import_lock": import_twice,
    "sleep": sleep,
    "load": load_for_ever,
}

if KIND == "load":
    load(HANDLERS[KIND])
    task("hang")(lambda payload: None)
elif asyncio.iscoroutinefunction(HANDLERS[KIND]):

    @task("hang")
    async def hang(payload):
        await HANDLERS[KIND]()

else:

    @task("hang")
    def hang(payload):
        HANDLERS[KIND]()


run()
