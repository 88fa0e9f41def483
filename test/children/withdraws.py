"""Protocol 2 with synchronous handlers and one asynchronous one, async, as the SDK runs them.

A task sleeps for the seconds in its payload, or until its cancellation when that is null; then its answer says "cancelled".
A task of type stubborn does not hear its cancellation. A task that has not begun is given back when it is asked for, but with
--keeps nothing ever is. --silent does not announce that it gives tasks back, --untyped announces no types."""
import json
import os
import sys
import threading
import time

lock = threading.Lock()
wake = threading.Condition()
waiting = []
cancelled = {}


def send(message):
    with lock:
        os.write(1, json.dumps(message, separators=(",", ":")).encode() + b"\n")


def handle(task):
    begin = time.monotonic()
    result = "done"
    if task["payload"] is None and task["type"] != "stubborn":
        cancelled[task["task_id"]].wait()
        result = "cancelled"
    else:
        time.sleep(3600 if task["payload"] is None else task["payload"])
    seconds = time.monotonic() - begin
    send({"task_id": task["task_id"], "result": result, "error": None, "retry": False, "seconds": seconds})


def run_in_order():
    while True:
        with wake:
            while not waiting:
                wake.wait()
            task = waiting.pop(0)
        handle(task)


def give_back(task_id):
    with wake:
        for task in waiting:
            if task["task_id"] == task_id:
                waiting.remove(task)
                send({"withdrawn": task_id})
                return


ready = {"status": "ready", "protocol": 2, "handlers": "sync"}
if "--untyped" not in sys.argv:
    ready["types"] = {"test": "sync", "stubborn": "sync", "async": "async"}
if "--silent" not in sys.argv:
    ready["features"] = ["ping", "cancel", "withdraw"]
send(ready)
threading.Thread(target=run_in_order, daemon=True).start()
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    if "ping" in message:
        send({"pong": message["ping"], "lag": 0.0})
    elif "cancel" in message:
        cancelled[message["cancel"]].set()
    elif "withdraw" in message:
        sys.stderr.write(f"withdraw {message['withdraw']}\n")
        sys.stderr.flush()
        if "--keeps" not in sys.argv:
            give_back(message["withdraw"])
    else:
        cancelled[message["task_id"]] = threading.Event()
        if message["type"] == "async":
            threading.Thread(target=handle, args=(message,), daemon=True).start()
        else:
            with wake:
                waiting.append(message)
                wake.notify()
