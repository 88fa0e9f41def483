"""The bare loop: calls a handler so many times in this process and prints how many calls a second that were.

    python3 loop.py TYPE PAYLOAD COUNT
"""

import json
import sys
import time

import handlers

call, payload, count = getattr(handlers, sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
began = time.perf_counter()
for _ in range(count):
    call(payload)
print(count / (time.perf_counter() - began))
