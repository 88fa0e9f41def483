"""Writes an error to stderr at its first task, answers both at its second, and exits with 3 at its third.

If the third payload is a text, it writes that to stderr before it exits."""
import json
import os
import sys

print(json.dumps({"status": "ready"}), flush=True)
first = json.loads(sys.stdin.readline())
sys.stderr.write("ZeroDivisionError of an earlier task\n")
sys.stderr.flush()
second = json.loads(sys.stdin.readline())
for task in (first, second):
    print(json.dumps({"task_id": task["task_id"], "result": None}), flush=True)
last = json.loads(sys.stdin.readline())
if last["payload"]:
    sys.stderr.write(last["payload"] + "\n")
    sys.stderr.flush()
os._exit(3)
