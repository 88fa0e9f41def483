"""Dies of SIGSEGV when it has read two tasks; --async announces asynchronous handlers, --v1 protocol 1."""
import json
import os
import signal
import sys

handlers = "async" if "--async" in sys.argv else "sync"
ready = {"status": "ready", "protocol": 2, "handlers": handlers}
if "--v1" in sys.argv:
    ready = {"status": "ready"}
print(json.dumps(ready), flush=True)
tasks = 0
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    if "ping" in message:
        print(json.dumps({"pong": message["ping"], "lag": 0.0}), flush=True)
    elif "task_id" in message:
        tasks += 1
        if tasks == 2:
            sys.stderr.write("about to crash\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
