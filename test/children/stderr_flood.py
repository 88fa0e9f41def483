"""Writes 32 MB to stderr without a newline before each reply."""
import json
import os
import sys

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    for _ in range(32):
        data = b"e" * (1 << 20)
        while data:
            data = data[os.write(2, data) :]
    os.write(1, json.dumps({"task_id": task["task_id"], "result": "flooded", "error": None}).encode() + b"\n")
