"""A child that knows only protocol 1, as handlers for the older runqy_python runner do. No package needed.

It sends the ready message, reads one JSON object per line and answers each with one line. Whatever else it prints goes
to the worker's log. It gets no pings, so the worker knows only whether it runs.
"""

import json
import sys
import traceback


def handle(payload):
    return {"sum": sum(payload["numbers"])}


print(json.dumps({"status": "ready"}), flush=True)

for line in sys.stdin:
    request = json.loads(line)
    reply = {"task_id": request["task_id"], "result": None, "error": None, "retry": False}
    try:
        reply["result"] = handle(request["payload"])
    except Exception:
        reply["error"] = traceback.format_exc()
        reply["retry"] = True
    print(json.dumps(reply), flush=True)
