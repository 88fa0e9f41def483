"""The examples run, and what docs/python.md shows is true."""

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
import unittest

from harness import ROOT, SDK, TIMEOUT, environment

sys.path.insert(0, SDK)
import runqy  # noqa: E402


class Examples(unittest.TestCase):
    def run_example(self, name, *lines):
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "examples", name)],
            input="".join(line + "\n" for line in lines).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=TIMEOUT,
        )
        self.assertEqual(done.returncode, 0, f"exit status; standard error: {done.stderr.decode()}")
        messages = [json.loads(line) for line in done.stdout.decode().splitlines() if line]
        messages = [message for message in messages if not {"log", "progress"} & set(message)]
        self.assertEqual(messages[0]["status"], "ready")
        return {message["task_id"]: message for message in messages[1:]}

    def test_hello(self):
        replies = self.run_example("hello.py", '{"task_id":"1","type":"hello","payload":{"name":"Ada"}}')
        self.assertEqual(replies["1"]["result"], {"greeting": "Hello, Ada!"})

    def test_image_model(self):
        red = "UDYgMSAxIDI1NQr/AAA="
        replies = self.run_example(
            "image_model.py",
            json.dumps({"task_id": "1", "type": "classify", "payload": {"image": red}}),
            json.dumps({"task_id": "2", "type": "classify", "payload": {"image": "UDYgeCB4IHgKAA=="}}),
            json.dumps({"task_id": "3", "type": "classify_many", "payload": {"images": [red, red]}}),
        )
        self.assertEqual(replies["1"]["result"]["label"], "red")
        self.assertRegex(replies["2"]["error"], "^Permanent: ")
        self.assertIs(replies["2"]["retry"], False)
        self.assertEqual(len(replies["3"]["result"]), 2)

    def test_async_fetch(self):
        replies = self.run_example(
            "async_fetch.py",
            '{"task_id":"1","type":"sleep","payload":{"seconds":0.01}}',
            '{"task_id":"2","type":"fetch","payload":{"url":"ftp://x"}}',
            '{"task_id":"3","type":"fetch","payload":{"url":"http://127.0.0.1:1/"},"timeout":30}',
            '{"task_id":"4","type":"fetch","payload":{"url":"http://127.0.0.1:1/"},"deadline":"2020-01-01T00:00:00Z"}',
        )
        self.assertEqual(replies["1"]["result"], {"slept": 0.01})
        self.assertIs(replies["2"]["retry"], False)
        self.assertRegex(replies["3"]["error"], "^URLError: .*refused")
        self.assertRegex(replies["4"]["error"], "^DeadlineExceeded: ")

    def test_legacy(self):
        replies = self.run_example(
            "legacy_v1.py", '{"task_id":"1","payload":{"numbers":[1,2]}}', '{"task_id":"2","payload":{}}'
        )
        self.assertEqual(replies["1"]["result"], {"sum": 3})
        self.assertEqual((replies["2"]["result"], replies["2"]["retry"]), (None, True))

    def test_blocks_of_the_guide_parse(self):
        with open(os.path.join(ROOT, "docs", "python.md"), encoding="utf-8") as source:
            text = source.read()
        blocks = re.findall(r"^( *)```(python|json)\n(.*?)^ *```$", text, re.M | re.S)
        self.assertGreater(len(blocks), 10, "number of code blocks found")
        for indent, language, block in blocks:
            block = textwrap.dedent(block)
            with self.subTest(block):
                if language == "python":
                    ast.parse(block, feature_version=(3, 8))
                else:
                    for line in block.splitlines():
                        json.loads(line)

    def test_version_is_the_same_everywhere(self):
        with open(os.path.join(ROOT, "docs", "python.md"), encoding="utf-8") as source:
            self.assertIn(f'"sdk":"{runqy.__version__}"', source.read())
        with open(os.path.join(SDK, "pyproject.toml"), encoding="utf-8") as source:
            self.assertIn("runqy._version.__version__", source.read())


if __name__ == "__main__":
    unittest.main()
