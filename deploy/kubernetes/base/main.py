"""An example of a task; put yours in its place."""

from runqy import run, task


@task("greet")
def greet(payload):
    return {"greeting": f"Hello, {payload.get('name', 'stranger')}!"}


if __name__ == "__main__":
    run()
