"""Protocol 2: answers all complete lines of one read with one write.

--async announces asynchronous handlers. The payload may have: sleep (seconds), fail (an error text), retry,
retry_delay, say (a text for stderr), whole (answer with the whole request)."""
import json
import os
import sys
import threading
import time

ASYNC = "--async" in sys.argv
lock = threading.Lock()


def write(text):
    data = text.encode()
    with lock:
        while data:
            data = data[os.write(1, data) :]


def answer(message):
    if "ping" in message:
        stats = {"gc": [{"generation": 0, "collections": 3, "collected": 2, "uncollectable": 1}]}
        return json.dumps({"pong": message["ping"], "lag": 0.0, "stats": stats})
    if "cancel" in message:
        return None
    payload = message.get("payload")
    if isinstance(payload, dict):
        if "say" in payload:
            sys.stderr.write(payload["say"] + "\n")
            sys.stderr.flush()
        if "sleep" in payload:
            if ASYNC:
                threading.Thread(target=later, args=(message, payload["sleep"]), daemon=True).start()
                return None
            time.sleep(payload["sleep"])
        if "fail" in payload:
            reply = {
                "task_id": message["task_id"],
                "result": None,
                "error": payload["fail"],
                "retry": payload.get("retry", True),
            }
            if "retry_delay" in payload:
                reply["retry_delay"] = payload["retry_delay"]
            return json.dumps(reply)
        if "whole" in payload:
            payload = message
    return json.dumps({"task_id": message["task_id"], "result": payload, "error": None, "retry": False})


def later(message, seconds):
    time.sleep(seconds)
    write(json.dumps({"task_id": message["task_id"], "result": "slept", "error": None, "retry": False}) + "\n")


def main():
    version = sys.version_info
    write(
        json.dumps(
            {
                "status": "ready",
                "protocol": 2,
                "handlers": "async" if ASYNC else "sync",
                "sdk": "0",
                "pid": os.getpid(),
                "python": {
                    "implementation": "CPython",
                    "version": ".".join(map(str, version[:3])),
                    "major": version[0],
                    "minor": version[1],
                    "patchlevel": version[2],
                },
            }
        )
        + "\n"
    )
    rest = b""
    while True:
        data = os.read(0, 1 << 20)
        if not data:
            break
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        replies = [answer(json.loads(line)) for line in lines]
        replies = [r for r in replies if r is not None]
        if replies:
            write("\n".join(replies) + "\n")


main()
