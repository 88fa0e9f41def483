"""The bench's tasks for Celery: results in Redis, acknowledged late, else as Celery is without settings.

    python3 celery_app.py TYPE <payload.json

prints a message as Celery puts it into Redis, with the id 00000000-0000-4000-8000-000000000000 for the task and its
delivery. The bench fills queues with copies of it. BENCH_REDIS is the URL of the server.
"""

import json
import os
import sys

import handlers
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.task_acks_late = True
# Of the next major version; without it the worker warns.
app.conf.broker_connection_retry_on_startup = True

for name in ("echo", "spin"):
    app.task(name=name)(getattr(handlers, name))

if __name__ == "__main__":
    nil = "00000000-0000-4000-8000-000000000000"
    app.send_task(sys.argv[1], args=[json.load(sys.stdin)], task_id=nil)
    with app.connection() as connection:
        raw = connection.default_channel.client.lpop("celery").decode()
    tag = json.loads(raw)["properties"]["delivery_tag"]
    print(raw.replace(tag, nil))
