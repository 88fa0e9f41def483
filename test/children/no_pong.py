"""Announces protocol 2 and never answers a ping; --busy burns CPU time meanwhile, for the seconds that follow."""
import json
import os
import sys
import time

os.write(1, json.dumps({"status": "ready", "protocol": 2, "handlers": "sync"}).encode() + b"\n")
if "--busy" in sys.argv:
    end = time.monotonic() + float(sys.argv[sys.argv.index("--busy") + 1])
    while time.monotonic() < end:
        sum(range(10000))
    for line in iter(sys.stdin.readline, ""):
        message = json.loads(line)
        if "ping" in message:
            os.write(1, json.dumps({"pong": message["ping"], "lag": 0.0}).encode() + b"\n")
else:
    sys.stdin.read()
