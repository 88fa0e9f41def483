"""Leaves behind a process that is in nobody's group, carries nothing in its environment and holds stdout open.

Its pid is said on stderr before this process exits with 6, at the first task."""
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
