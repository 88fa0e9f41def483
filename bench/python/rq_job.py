"""Prints the hash of a job as RQ puts it into Redis, each value in base64, as a JSON object.

    python3 rq_job.py TYPE <payload.json

The bench fills queues with copies of it. BENCH_REDIS is the URL of the server.
"""

import base64
import json
import os
import sys

import handlers
from redis import Redis
from rq import Queue

client = Redis.from_url(os.environ["BENCH_REDIS"])
job = Queue(connection=client).enqueue(getattr(handlers, sys.argv[1]), json.load(sys.stdin))
fields = client.hgetall(job.key)
print(json.dumps({key.decode(): base64.b64encode(value).decode() for key, value in fields.items()}))
