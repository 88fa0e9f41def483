"""Requests that are invalid, huge or in pieces, and the answers to pings."""

import json
import unittest

from harness import ChildCase, request


class Requests(ChildCase):
    def test_invalid_lines_are_noted_and_skipped(self):
        child = self.start("@task\ndef t(p): return p")
        child.raw(
            b'\n  \r\nnot json\n[1,2]\n42\n{}\n{"what":1}\n{"task_id"\n{"a":1}{"b":2}\n\xff\xfe\n'
            + json.dumps(request("1", payload="ok")).encode()
            + b"\r\n"
            + b"   "
            + json.dumps(request("2", payload="ok")).encode()
            + b"  \n"
        )
        self.assertDone(child.receive(), "ok")
        self.assertDone(child.receive(), "ok")
        self.assertEnds(child)
        self.assertEqual(
            child.stderr.count("runqy: ignored an input line"), 8, f"number of ignored lines: {child.stderr}"
        )

    def test_a_task_that_cannot_be_read_is_answered(self):
        child = self.start("@task\ndef t(p): return 'fine'")
        child.raw(b'{"task_id":"deep","type":"t","payload":' + b"[" * 200000 + b"]" * 200000 + b"}\n")
        self.assertFailed(child.receive(), "^BadRequest: .*nested too deeply", retry=False)
        child.raw(b'{"task_id":"utf8","type":"t","payload":"\xff\xfe"}\n')
        self.assertFailed(child.receive(), "^BadRequest: .*utf-8", retry=False)
        child.raw(b'{"task_id":"cut","type":"t","payl\n')
        self.assertFailed(child.receive(), "^BadRequest: ", retry=False)
        child.raw(b'{"task_id":"digits","type":"t","payload":' + b"1" * 5000 + b"}\n")
        self.assertEqual(child.receive()["task_id"], "digits")
        self.assertDone(child.ask("1"), "fine")

    def test_a_line_in_many_pieces(self):
        child = self.start("@task\ndef t(p): return p")
        for byte in json.dumps(request("1", payload="é")).encode() + b"\n":
            child.raw(bytes([byte]))
        self.assertDone(child.receive(), "é")

    def test_lone_surrogates(self):
        child = self.start(
            """
            @task
            def t(p):
                if p == "raise": raise ValueError("\\udfff")
                return p
            """
        )
        child.raw(b'{"task_id":"1","type":"t","payload":{"\\ud800":"\\udc00 \xc3\xa9"}}\n')
        line = child.line()
        self.assertDone(json.loads(line), {"\ud800": "\udc00 é"})
        line.decode("utf-8")
        self.assertFailed(child.ask("2", payload="raise"), "^ValueError: \udfff")
        self.assertEqual(child.ask("\ud801")["task_id"], "\ud801")

    def test_large_lines_of_every_kind(self):
        child = self.start("@task\ndef t(p): return p")
        size = 600 * 1024
        text = "é" * (size // 2)
        child.raw(b'{"task_id":"utf8","type":"t","payload":"\xff' + b"x" * size + b'"}\n')
        child.raw(b'{"task_id":"cut","type":"t","payload":"' + b"x" * size + b"\n")
        child.raw(b" " * size + b"\n" + b"x" * size + b"\n")
        large = json.dumps(request("large", payload=text), ensure_ascii=False).encode() + b"\n"
        child.raw(large + json.dumps(request("small")).encode() + b"\n" + large[:size])
        child.raw(large[size:] + b'{"ping":1}\n' + large + large)
        want = {"utf8": 1, "cut": 1, "large": 4, "small": 1}
        got = dict.fromkeys(want, 0)
        for _ in range(sum(want.values()) + 1):
            message = child.receive()
            if "pong" in message:
                continue
            got[message["task_id"]] += 1
            if message["task_id"] == "large":
                self.assertTrue(message["result"] == text, "the result is the payload")
        self.assertEqual(got, want)
        self.assertEnds(child)
        self.assertEqual(child.stderr.count("runqy: ignored an input line"), 1, f"ignored lines: {child.stderr}")

    def test_large_results_beside_small_ones(self):
        child = self.start("@task\nasync def t(p): return 'x' * p")
        sizes = [0, 1 << 20, 0, 1 << 17, 1 << 17, 1, 1 << 22]
        child.send(*[request(str(number), payload=size) for number, size in enumerate(sizes)])
        for _ in sizes:
            reply = child.receive()
            self.assertEqual(len(reply["result"]), sizes[int(reply["task_id"])])
        self.assertEnds(child)

    def test_fifty_megabytes(self):
        child = self.start("@task\ndef t(p): return {'data': p, 'n': len(p)}")
        size = 50 * 1024 * 1024
        child.raw(b'{"task_id":"1","type":"t","payload":"' + b"x" * size + b'"}\n{"ping":1}\n')
        lines = [child.line(), child.line()]
        big = max(lines, key=len)
        self.assertGreater(len(big), size, "length of the reply")
        reply = json.loads(big)
        self.assertEqual((reply["task_id"], reply["result"]["n"], len(reply["result"]["data"])), ("1", size, size))
        self.assertEqual(json.loads(min(lines, key=len))["pong"], 1)
        self.assertEnds(child)


class Pings(ChildCase):
    def test_pong_while_a_handler_runs(self):
        child = self.start("import threading\ngo = threading.Event()\n@task\ndef t(p): go.wait()")
        child.task("1")
        child.send({"ping": 7})
        pong = child.receive()
        self.assertEqual((pong["pong"], pong["lag"]), (7, 0.0))
        for number, generation in enumerate(pong["stats"]["gc"]):
            self.assertEqual(sorted(generation), ["collected", "collections", "generation", "uncollectable"])
            self.assertEqual(generation["generation"], number)

    def test_pong_while_a_handler_computes(self):
        child = self.start(
            """
            stop = []
            @task
            def t(p):
                print("begun", flush=True)
                n = 0
                while True: n += 1
            """
        )
        child.task("1")
        child.wait_stderr("begun")
        child.send({"ping": 1})
        self.assertEqual(child.receive()["pong"], 1)


if __name__ == "__main__":
    unittest.main()
