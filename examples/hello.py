from runqy import run, task


@task("hello")
def hello(payload):
    return {"greeting": f"Hello, {payload['name']}!"}


if __name__ == "__main__":
    run()
