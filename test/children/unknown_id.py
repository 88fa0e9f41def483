"""Before each reply, answers a task that was never sent."""
import json
import os
import sys

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    for name in ("nobody", task["task_id"]):
        os.write(1, json.dumps({"task_id": name, "result": name, "error": None}).encode() + b"\n")
