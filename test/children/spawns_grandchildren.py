"""Starts sleeping processes for each task and answers with their pids.

One stays in the process group, one has a session of its own, one has a session of its own and holds stdout open, and
one has an empty environment. After a task of type die it exits with 9."""
import json
import os
import subprocess
import sys

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
for line in sys.stdin:
    task = json.loads(line)
    null = subprocess.DEVNULL
    started = [
        subprocess.Popen(["sleep", "3600"], stdin=null, stdout=null, stderr=null),
        subprocess.Popen(["sleep", "3600"], stdin=null, stdout=null, stderr=null, start_new_session=True),
        subprocess.Popen(["sleep", "3600"], stdin=null, start_new_session=True),
        subprocess.Popen(["env", "-i", "sleep", "3600"], stdin=null, stdout=null, stderr=null),
    ]
    pids = [p.pid for p in started]
    os.write(1, json.dumps({"task_id": task["task_id"], "result": pids, "error": None}).encode() + b"\n")
    if task["type"] == "die":
        os._exit(9)
