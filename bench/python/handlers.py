"""What the tasks of the bench do, for every system alike."""

import time


def echo(payload):
    """Nothing: the task costs what the system costs."""
    return payload


def spin(payload):
    """Uses the processor for so many seconds, as this thread's own clock counts them."""
    end = time.thread_time() + payload["seconds"]
    while time.thread_time() < end:
        pass
    return payload
