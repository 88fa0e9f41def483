"""Closes its stdout at its first task, and goes on."""
import json
import os
import sys
import time

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
sys.stdin.readline()
os.close(1)
time.sleep(3600)
