"""A model that is loaded once and then answers many tasks.

The "model" here averages colours, so that the file runs with nothing installed; put your own in load_model().
Images come as base64 of binary PPM (P6), which needs no library to read.

    runqy-worker enqueue inference_default classify '{"image": "UDYgMSAxIDI1NQr/AAA="}' --wait
    redis-cli HMGET asynq:t:<task id> progress progress_message    # while classify_many runs
"""

import base64
import logging
import os

from runqy import LogHandler, Permanent, Retry, load, progress, run, task

# Each line goes to the worker's log with the id of its task. print() ends up there too, without one.
logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"), handlers=[LogHandler()])
log = logging.getLogger("image_model")


class Model:
    """Stands for a network: names the strongest colour of an image."""

    labels = ("red", "green", "blue")

    def predict(self, pixels):
        totals = [sum(pixels[channel::3]) for channel in range(3)]
        whole = sum(totals) or 1
        return {label: round(total / whole, 4) for label, total in zip(self.labels, totals)}


def read_ppm(data):
    fields = data.split(None, 4)
    if len(fields) < 4 or fields[0] != b"P6":
        raise Permanent("the image is not a binary PPM (P6)")
    width, height, depth = (int(field) for field in fields[1:4])
    pixels = data[-width * height * 3 :]
    if depth != 255 or len(pixels) != width * height * 3:
        raise Permanent(f"the image is not {width} x {height} pixels of 3 bytes")
    return pixels


@load
def load_model():
    # Runs once, before the first task; the worker reports itself as starting meanwhile. If it raises, the worker says
    # why. What it returns is ctx.loaded; ctx["model"] is short for ctx.loaded["model"].
    name = os.environ.get("MODEL", "small")
    log.info("loading model %s", name)
    return {"model": Model(), "name": name}


@task("classify")
def classify(payload, ctx):
    try:
        pixels = read_ppm(base64.b64decode(payload["image"], validate=True))
    except (KeyError, TypeError, ValueError) as exc:
        # The same payload would fail the same way: do not try it again.
        raise Permanent(f"payload.image must be a PPM in base64: {exc!r}") from exc
    try:
        scores = ctx["model"].predict(pixels)
    except MemoryError as exc:
        # It may succeed later: retry it after delay seconds.
        raise Retry("out of memory", delay=30) from exc
    log.info("try %d of %d", ctx.retry_count + 1, ctx.max_retry + 1, extra=scores)
    # Only JSON: numpy users write float(score) and array.tolist().
    return {"label": max(scores, key=scores.get), "scores": scores, "model": ctx["name"]}


@task("classify_many")
def classify_many(payload, ctx):
    """A long task: between two steps it reports its progress and checks whether it should end."""
    images, results = payload["images"], []
    for number, image in enumerate(images):
        progress(number / len(images), f"image {number + 1} of {len(images)}")
        if ctx.cancelled:
            raise Retry(f"stopped after {len(results)} of {len(images)} images")
        results.append(classify({"image": image}, ctx))
    return results


if __name__ == "__main__":
    run()
