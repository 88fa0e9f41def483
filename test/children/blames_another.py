"""Writes an error to stderr at its first task, answers that at its second, and dies at its third: silently, unless the
payload is a text to write before."""
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
