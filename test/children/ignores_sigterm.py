"""Ignores SIGTERM and the end of its stdin."""
import json
import os
import signal
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
sys.stdin.read()
while True:
    time.sleep(3600)
