"""Closes its stdout at its first task, and goes on; with a number, it exits with status 3 after so many seconds."""
import json
import os
import sys
import time

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
sys.stdin.readline()
os.close(1)
if len(sys.argv) > 1:
    time.sleep(float(sys.argv[1]))
    sys.exit(3)
time.sleep(3600)
