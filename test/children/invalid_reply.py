"""Answers with the raw text in its payload, where TASK stands for the task id."""
import json
import os
import sys

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    os.write(1, task["payload"].replace("TASK", json.dumps(task["task_id"])).encode("utf-8", "surrogateescape") + b"\n")
