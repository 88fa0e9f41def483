"""Asynchronous handlers; a task makes the reported lag grow for the seconds in its payload."""
import json
import os
import sys
import time

os.write(1, json.dumps({"status": "ready", "protocol": 2, "handlers": "async"}).encode() + b"\n")
blocked_from = blocked_until = 0.0
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    now = time.monotonic()
    if "ping" in message:
        lag = now - blocked_from if now < blocked_until else 0.0
        os.write(1, json.dumps({"pong": message["ping"], "lag": lag}).encode() + b"\n")
    elif "task_id" in message:
        blocked_from, blocked_until = now, now + message["payload"]
        os.write(1, json.dumps({"task_id": message["task_id"], "result": None, "error": None}).encode() + b"\n")
