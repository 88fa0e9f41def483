"""Protocol 2. A request's payload is a list of lines to write before the answer, where TASK stands for its id in quotes
and PAD for 2 MiB, or a number: so many log lines at once, and as many reports of progress. --1 announces version 1."""
import json
import os
import sys


def write(text):
    data = text.encode("utf-8", "surrogatepass")
    while data:
        data = data[os.write(1, data) :]


write('{"log":{"message":"loading","level":"debug"}}\n{"log":{"message":"loaded","fields":{"seconds":1.5}}}\n')
protocol = "" if "--1" in sys.argv else ',"protocol":2,"handlers":"sync"'
write(f'{{"status":"ready"{protocol}}}\n')
for line in sys.stdin:
    message = json.loads(line)
    if "ping" in message:
        write(f'{{"pong":{message["ping"]},"lag":0,"stats":{{}}}}\n')
        continue
    if "task_id" not in message:
        continue
    task, payload = json.dumps(message["task_id"]), message["payload"]
    if isinstance(payload, int):
        for n in range(payload):
            write(
                f'{{"log":{{"task_id":{task},"message":"line {n}"}}}}\n'
                f'{{"progress":{{"task_id":{task},"fraction":{(n + 1) / payload:f}}}}}\n'
            )
    else:
        for text in payload:
            write(text.replace("TASK", task).replace("PAD", "x" * (2 << 20)) + "\n")
    write(f'{{"task_id":{task},"result":"done"}}\n')
