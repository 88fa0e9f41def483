"""What tasks and processes of the health bench do, for every system alike. Each function is a task of its name."""

import ctypes
import os
import resource
import signal
import socket
import threading
import time

# A file with a word in it: how every process behaves from now on. The bench writes it.
SWITCH = os.environ.get("HEALTH_BENCH_SWITCH", "")


def switch():
    try:
        with open(SWITCH) as f:
            return f.read().strip()
    except OSError:
        return ""


def echo(payload):
    """Does nothing, as long as a task can be done at all."""
    word = switch()
    if word in ("fail", "check fails", "check hangs"):
        raise RuntimeError(f"asked to fail: {word}")
    if word == "half" and int(time.monotonic() * 1000) % 2:
        raise RuntimeError("asked to fail now and then")
    return payload


def sleep(payload):
    time.sleep(payload["seconds"])
    return "slept"


def spin(payload):
    """Python code that goes round and round."""
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end:
        pass
    return "spun"


def compute(payload):
    """C code that computes and never lets go of the interpreter."""
    n, took = 1 << 20, 0.0
    while took < 0.25:  # how much is a quarter of a second?
        n *= 2
        began = time.monotonic()
        sum(range(n))
        took = time.monotonic() - began
    sum(range(int(n * payload["seconds"] / took)))
    return "computed"


def lock(payload):
    """A deadlock that lets other threads run."""
    mutex = threading.Lock()
    mutex.acquire()
    mutex.acquire()


def hold_gil(payload):
    """A deadlock of C code that holds the interpreter."""
    while True:
        ctypes.PyDLL(None).pause()


def memory(payload):
    """Takes what it may and needs more."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (256 << 20, hard))
    return len(bytearray(1 << 30))


def needs_memory(payload):
    return len(bytearray(payload["bytes"]))


def descriptors(payload):
    """Leaks every file descriptor that there is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        while True:
            os.dup(2)
    except OSError:
        return "none is left"


def needs_descriptor(payload):
    with open(os.devnull) as f:
        return f.fileno()


def needs_database(payload):
    """A task that cannot be done without the database: asks PostgreSQL whether it speaks TLS."""
    host, port = os.environ["HEALTH_BENCH_DATABASE"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=2) as s:
        s.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
        return s.recv(1).decode()


def needs_disk(payload):
    with open(os.path.join(os.environ["HEALTH_BENCH_DISK"], payload["file"]), "w") as f:
        f.write("x" * (64 << 10))
    return "written"


def crash(payload):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(payload):
    """Leaves a thread behind, and has the main thread end a moment later."""
    threading.Thread(target=time.sleep, args=(3600,)).start()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return "about to leave"


def flood(payload):
    """Writes a lot to standard error."""
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end:
        os.write(2, b"a line that nobody reads\n" * 100)
    return "written"


TASKS = {
    f.__name__: f
    for f in list(globals().values())
    if callable(f) and getattr(f, "__module__", "") == __name__ and f is not switch
}
