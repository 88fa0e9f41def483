"""With the SDK: every task fails, but one of type fine. The text of the failure is the payload."""
from runqy import run, task


@task("fine")
def fine(payload):
    return payload


@task
def fail(payload):
    raise ValueError(payload)


if __name__ == "__main__":
    run()
