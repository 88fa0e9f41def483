"""Leaves behind a process that is in no group of ours, has an empty environment and holds stdout open.

It writes that process's pid to stderr at the first task, then exits with 6."""
import json
import os
import subprocess
import sys
import time

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
sys.stdin.readline()
shell = "sleep 3600 & echo $! >&2"
subprocess.run(["env", "-i", "/bin/sh", "-c", shell], stdin=subprocess.DEVNULL, start_new_session=True)
time.sleep(0.1)
os._exit(6)
