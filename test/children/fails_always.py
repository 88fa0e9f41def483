"""With the SDK: every task fails, but one of type fine. The text of the failure is the payload."""
from runqy import Permanent, Retry, run, task


@task("fine")
def fine(payload):
    return payload


@task("later")
def later(payload):
    raise Retry(payload, delay=1)


@task("refuse")
def refuse(payload):
    raise Permanent(payload)


@task
def fail(payload):
    raise ValueError(payload)


if __name__ == "__main__":
    run()
