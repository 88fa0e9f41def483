"""Enqueues a job for RQ and prints its id. HEALTH_BENCH_REDIS is the URL.

    python3 rq_job.py TASK JSON
"""

import json
import os
import sys

import faults
from redis import Redis
from rq import Queue

client = Redis.from_url(os.environ["HEALTH_BENCH_REDIS"])
print(Queue(connection=client).enqueue(faults.TASKS[sys.argv[1]], json.loads(sys.argv[2])).id)
