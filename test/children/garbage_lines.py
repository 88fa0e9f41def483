"""Writes all kinds of lines that are not protocol around each reply."""
import json
import os
import sys

os.write(1, b"hello before ready\n")
os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    reply = json.dumps({"task_id": task["task_id"], "result": task["payload"], "error": None}).encode()
    os.write(1, b'plain text\n\n\xff\xfe\x00binary\n{"a": 1}\n[1, 2]\n{broken\n{"status": "ready"}\n')
    os.write(1, b"50% \r100% " + reply + b"\n")
