"""Becomes ready after the seconds in its first argument, then echoes."""
import json
import sys
import time

time.sleep(float(sys.argv[1]))
print(json.dumps({"status": "ready"}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({"task_id": task["task_id"], "result": task.get("payload"), "error": None}), flush=True)
