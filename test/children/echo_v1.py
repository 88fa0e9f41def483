"""Protocol 1, synchronous: answers each task with its payload."""
import json
import sys


def send(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


send({"status": "ready"})
for line in sys.stdin:
    task = json.loads(line)
    send({"task_id": task["task_id"], "result": task.get("payload"), "error": None, "retry": False})
