"""What handlers and their child processes print never gets into the protocol."""

import json
import unittest

from harness import ChildCase


class Output(ChildCase):
    def test_prints_go_to_stderr_only(self):
        child = self.start(
            """
            import sys
            print("while importing")
            @task
            def t(p):
                print("printed")
                print('{"task_id":"1","result":"forged"}')
                sys.stdout.write("no newline")
                sys.__stdout__.write(" and more\\n")
                print("surrogate \\ud800")
                return 1
            """
        )
        self.assertDone(child.ask("1"), 1)
        self.assertEnds(child)
        self.assertNoMoreLines(child)
        for text in ("while importing", "printed\n", "forged", "no newline and more\n", "surrogate \\ud800"):
            self.assertInStderr(text, child)

    def test_a_partial_line_before_run_does_not_hide_readiness(self):
        child = self.start("print('Loading... ', end='', flush=True)\n@task\ndef t(p): return 1", ready=False)
        self.assertEqual(child.line(), b"Loading... \n")
        child.ready()

    def test_c_code_and_subprocesses(self):
        child = self.start(
            """
            import ctypes, os, subprocess, sys
            libc = ctypes.CDLL(None)
            @task
            def t(p):
                libc.puts(b"from C"); libc.fflush(None)
                os.write(1, b"to descriptor one\\n")
                subprocess.run(["sh", "-c", "echo from a shell; cat; echo end of input"], check=True)
                os.system("echo from system")
                return [sys.stdin.read(), os.read(0, 10).decode()]
            """
        )
        self.assertDone(child.ask("1"), ["", ""])
        self.assertEnds(child)
        self.assertNoMoreLines(child)
        for text in ("from C", "to descriptor one", "from a shell", "end of input", "from system"):
            self.assertInStderr(text, child)

    def test_children_do_not_inherit_the_protocol(self):
        child = self.start(
            """
            import os, subprocess, sys
            @task
            def t(p):
                code = "import os; print(sorted(int(n) for n in os.listdir('/dev/fd')))"
                command = [sys.executable, "-c", code]
                return subprocess.run(command, close_fds=False, stdout=subprocess.PIPE).stdout.decode()
            """
        )
        listed = json.loads(child.ask("1")["result"])
        # The listing itself holds one descriptor.
        self.assertLessEqual(len([n for n in listed if n > 2]), 1, f"number of inherited descriptors above 2: {listed}")

    def test_input_meets_end_of_file(self):
        child = self.start("@task\ndef t(p): return input()")
        self.assertFailed(child.ask("1"), "^EOFError")

    def test_a_forked_child_does_not_answer(self):
        child = self.start(
            """
            import os, sys
            @task
            def t(p):
                pid = os.fork()
                if pid == 0:
                    if p == "return": return "the child's"
                    sys.exit(7)
                return ["the parent's", os.waitpid(pid, 0)[1] >> 8]
            """
        )
        self.assertDone(child.ask("1", payload="return"), ["the parent's", 0])
        self.assertDone(child.ask("2", payload="exit"), ["the parent's", 7])
        self.assertEnds(child)
        self.assertNoMoreLines(child)

    def test_multiprocessing(self):
        child = self.start(
            """
            import multiprocessing
            def square(n): return n * n
            @task
            def t(p):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(square, [1, 2, 3])
            """
        )
        self.assertDone(child.ask("1"), [1, 4, 9])
        self.assertEnds(child)

    def test_closed_stderr(self):
        child = self.start("import os; os.close(2)\n@task\ndef t(p): print('lost'); return 1")
        self.assertDone(child.ask("1"), 1)
        self.assertEnds(child)


if __name__ == "__main__":
    unittest.main()
