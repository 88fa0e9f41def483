"""Becomes ready and never reads its stdin."""
import json
import os
import time

os.write(1, json.dumps({"status": "ready"}).encode() + b"\n")
time.sleep(3600)
