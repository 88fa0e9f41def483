"""Protocol 2 without features, synchronous: runs each task for the seconds in its payload, and answers how many tasks
waited behind a running one at most. --v1 announces protocol 1."""
import json
import os
import sys
import threading
import time

ready = {"status": "ready"}
if "--v1" not in sys.argv:
    ready.update(protocol=2, handlers="sync")
waiting = []
unanswered = 0
most = 0
changed = threading.Condition()


def send(message):
    os.write(1, json.dumps(message).encode() + b"\n")


def work():
    global unanswered
    while True:
        with changed:
            while not waiting:
                changed.wait()
            task = waiting.pop(0)
        time.sleep(task["payload"])
        with changed:
            unanswered -= 1
        send({"task_id": task["task_id"], "result": most, "error": None, "retry": False})


send(ready)
threading.Thread(target=work, daemon=True).start()
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    if "ping" in message:
        send({"pong": message["ping"], "lag": 0.0})
    elif "task_id" in message:
        with changed:
            waiting.append(message)
            unanswered += 1
            most = max(most, unanswered - 1)
            changed.notify()
