"""Answers with a line of payload.size bytes. payload.named says whether the line has a task_id, at its beginning."""
import json
import os
import sys

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    payload = task["payload"]
    size = payload.get("size", 0)
    head = f'{{"task_id": {json.dumps(task["task_id"])}, "result": "' if payload.get("named", True) else '{"result": "'
    data = (head + "x" * size + '", "error": null}\n').encode()
    while data:
        data = data[os.write(1, data) :]
