"""The health bench's tasks for Celery, as it is without settings but for results. HEALTH_BENCH_REDIS is the URL.

    python3 celery_app.py TASK JSON

enqueues a task and prints its id.
"""

import json
import os
import sys

import faults
from celery import Celery

url = os.environ["HEALTH_BENCH_REDIS"]
app = Celery("health", broker=url, backend=url)
# Of the next major version; without it the worker warns.
app.conf.broker_connection_retry_on_startup = True

for name, function in faults.TASKS.items():
    app.task(name=name)(function)

if __name__ == "__main__":
    print(app.send_task(sys.argv[1], args=[json.loads(sys.argv[2])], retry=False).id)
