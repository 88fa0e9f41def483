"""Write task handlers in Python; runqy-worker runs them.

    from runqy import run, task

    @task("hello")
    def hello(payload):
        return {"greeting": f"Hello, {payload['name']}!"}

    if __name__ == "__main__":
        run()

The guide is docs/python.md.
"""

from ._context import Context
from ._errors import Broken, Permanent, Retry
from ._log import LogHandler, log
from ._registry import health, load, task
from ._report import progress
from ._runtime import run
from ._stack import register as register_stack_signal
from ._startup import report_failed_start
from ._version import __version__

__all__ = [
    "Broken",
    "Context",
    "LogHandler",
    "Permanent",
    "Retry",
    "__version__",
    "health",
    "load",
    "log",
    "progress",
    "run",
    "task",
]

# Before anything of the task file: its imports and its @load function may hang too.
register_stack_signal()
report_failed_start()
