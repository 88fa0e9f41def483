"""Answers pings, never answers a task of type hang, and answers other tasks after the seconds in their payload.

--async announces asynchronous handlers: other tasks are answered while one hangs. --v1 announces protocol 1."""
import json
import os
import sys
import threading
import time

ASYNC = "--async" in sys.argv
ready = {"status": "ready"}
if "--v1" not in sys.argv:
    ready.update(protocol=2, handlers="async" if ASYNC else "sync")
work = []
wake = threading.Condition()


def send(message):
    os.write(1, json.dumps(message).encode() + b"\n")


def handle(task):
    if task["type"] == "hang":
        time.sleep(3600)
    time.sleep(task["payload"] or 0)
    send({"task_id": task["task_id"], "result": "done", "error": None})


def worker():
    while True:
        with wake:
            while not work:
                wake.wait()
            task = work.pop(0)
        handle(task)


send(ready)
threading.Thread(target=worker, daemon=True).start()
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    if "ping" in message:
        send({"pong": message["ping"], "lag": 0.0})
    elif "cancel" in message:
        sys.stderr.write(f"cancel {message['cancel']}\n")
        sys.stderr.flush()
    elif ASYNC:
        threading.Thread(target=handle, args=(message,), daemon=True).start()
    else:
        with wake:
            work.append(message)
            wake.notify()
