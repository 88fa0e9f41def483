"""The source of the SDK: the oldest Python it supports, and what it imports."""

import ast
import glob
import os
import unittest

from harness import ROOT, SDK


STANDARD_LIBRARY = {
    "asyncio",
    "atexit",
    "base64",
    "builtins",
    "collections",
    "contextvars",
    "datetime",
    "faulthandler",
    "fcntl",
    "functools",
    "gc",
    "inspect",
    "json",
    "logging",
    "math",
    "os",
    "platform",
    "queue",
    "re",
    "signal",
    "stat",
    "sys",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
}


class Source(unittest.TestCase):
    def test_syntax_of_python_3_8(self):
        files = glob.glob(os.path.join(SDK, "**", "*.py"), recursive=True) + glob.glob(
            os.path.join(ROOT, "examples", "*.py")
        )
        self.assertGreater(len(files), 10, "number of files found")
        for path in files:
            with self.subTest(path), open(path, encoding="utf-8") as source:
                ast.parse(source.read(), path, feature_version=(3, 8))

    def test_standard_library_only(self):
        for path in glob.glob(os.path.join(SDK, "runqy", "*.py")):
            with open(path, encoding="utf-8") as source:
                tree = ast.parse(source.read(), path)
            for node in ast.walk(tree):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    with self.subTest(path=path, name=name):
                        top = name.split(".")[0]
                        self.assertTrue(
                            top == "__future__" or top in STANDARD_LIBRARY, f"{name} is in the standard library"
                        )


if __name__ == "__main__":
    unittest.main()
