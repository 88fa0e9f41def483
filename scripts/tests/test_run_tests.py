"""The counting of `make test`: what it reads from go test and from unittest."""

import contextlib
import io
import json
import pathlib
import shutil
import tempfile
import unittest

import run_tests


def feed(*events):
    """Feeds events of one package; returns the reader and what it printed."""
    out = io.StringIO()
    reader = run_tests.GoEvents(out)
    for event in events:
        reader.feed(event if isinstance(event, str) else json.dumps(dict({"Package": "p"}, **event)) + "\n")
    return reader, out.getvalue()


def finished(name, result, output=""):
    events = [{"Action": "run", "Test": name}]
    if output:
        events.append({"Action": "output", "Test": name, "Output": output})
    return events + [{"Action": result, "Test": name}]


class GoEvents(unittest.TestCase):
    def test_counts_each_result(self):
        reader, out = feed(
            *finished("TestA", "pass"), *finished("TestB", "skip", "no redis\n"), {"Action": "pass", "Elapsed": 1.25}
        )
        self.assertEqual(reader.count(), (1, 0, 1))
        self.assertIn("ok   p  1.2s  (2 tests)", out)
        self.assertIn("no redis", out)

    def test_shows_the_output_of_what_failed_and_only_that(self):
        reader, out = feed(
            *finished("TestA", "pass", "quiet\n"), *finished("TestB", "fail", "want 1, got 2\n"), {"Action": "fail"}
        )
        self.assertEqual(reader.count(), (1, 1, 0))
        self.assertEqual(reader.failures, ["p TestB"])
        self.assertIn("want 1, got 2", out)
        self.assertNotIn("quiet", out)

    def test_counts_subtests_and_not_their_parent(self):
        reader, _ = feed(
            {"Action": "run", "Test": "TestA"},
            *finished("TestA/x", "pass"),
            *finished("TestA/y", "fail"),
            {"Action": "fail", "Test": "TestA"},
            {"Action": "fail"},
        )
        self.assertEqual(reader.count(), (1, 1, 0))
        self.assertEqual(reader.failures, ["p TestA/y"])

    def test_counts_a_parent_that_failed_by_itself(self):
        reader, _ = feed(
            {"Action": "run", "Test": "TestA"},
            *finished("TestA/x", "pass"),
            {"Action": "fail", "Test": "TestA"},
            {"Action": "fail"},
        )
        self.assertEqual(reader.count(), (1, 1, 0))

    def test_counts_a_test_that_did_not_finish(self):
        reader, out = feed(
            {"Action": "run", "Test": "TestA"},
            {"Action": "output", "Output": "panic: test timed out after 10m0s\n"},
            {"Action": "fail"},
        )
        self.assertEqual(reader.count(), (0, 1, 0))
        self.assertIn("timed out", out)

    def test_counts_a_package_that_does_not_compile(self):
        reader, out = feed(
            json.dumps({"ImportPath": "p [p.test]", "Action": "build-output", "Output": "x.go:1: undefined: y\n"}),
            json.dumps({"ImportPath": "p [p.test]", "Action": "build-fail"}),
            {"Action": "fail", "FailedBuild": "p [p.test]"},
        )
        self.assertEqual(reader.count(), (0, 1, 0))
        self.assertIn("undefined: y", out)

    def test_counts_a_failure_of_the_package_after_its_tests_passed(self):
        reader, out = feed(
            *finished("TestA", "pass"),
            {"Action": "output", "Output": "goleak: found a goroutine\n"},
            {"Action": "fail"},
        )
        self.assertEqual(reader.count(), (1, 1, 0))
        self.assertIn("goleak", out)

    def test_passes_on_what_is_not_an_event(self):
        reader, out = feed("go: downloading something\n")
        self.assertEqual(reader.count(), (0, 0, 0))
        self.assertEqual(out, "go: downloading something\n")


class Unittest(unittest.TestCase):
    def test_reads_success(self):
        self.assertEqual(run_tests.read_unittest("...\nRan 3 tests in 0.1s\n\nOK\n", 0), (3, 0, 0))

    def test_reads_skips_and_failures(self):
        text = "Ran 9 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n"
        self.assertEqual(run_tests.read_unittest(text, 1), (3, 3, 3))

    def test_takes_silence_for_a_failure(self):
        self.assertEqual(run_tests.read_unittest("Segmentation fault\n", 139), (0, 1, 0))

    def test_takes_a_failing_exit_for_a_failure(self):
        self.assertEqual(run_tests.read_unittest("Ran 3 tests in 0.1s\n\nOK\n", 1), (2, 1, 0))


class Packages(unittest.TestCase):
    def test_puts_the_first_before_those_of_the_arguments(self):
        for arguments, want in [
            (["-race", "-p", "3", "./..."], ["-race", "-p", "3", "./b", "./a/...", "./..."]),
            (["-race", "./x", "./y"], ["-race", "./b", "./a/...", "./x", "./y"]),
            (["-race"], ["-race", "./b", "./a/..."]),
        ]:
            self.assertEqual(run_tests.with_packages(arguments, ["./b", "./a/..."]), want)
        self.assertEqual(run_tests.with_packages(["-race", "./..."], []), ["-race", "./..."])


@unittest.skipUnless(shutil.which("go"), "there is no go")
class Modules(unittest.TestCase):
    """go test itself, in the folder of another module."""

    def run_in(self, test):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "go.mod").write_text("module example.com/other\n\ngo 1.21\n", encoding="utf-8")
            pathlib.Path(folder, "x_test.go").write_text(
                f'package x\n\nimport "testing"\n\nfunc TestX(t *testing.T) {{ {test} }}\n', encoding="utf-8"
            )
            with contextlib.redirect_stdout(io.StringIO()) as out:
                return run_tests.run_go(["-vet=off", "./..."], folder), out.getvalue()

    def test_counts_what_passes(self):
        result, out = self.run_in("")
        self.assertEqual(result, ((1, 0, 0), []))
        self.assertIn("example.com/other", out)

    def test_names_what_fails(self):
        result, _ = self.run_in('t.Error("no")')
        self.assertEqual(result, ((0, 1, 0), ["example.com/other TestX"]))

    def test_takes_a_module_that_is_not_there_for_a_failure(self):
        with contextlib.redirect_stdout(io.StringIO()):
            count, failures = run_tests.run_go(["./..."], "/nowhere/at/all")
        self.assertEqual(count.failed, 1)
        self.assertIn("/nowhere/at/all", failures[0])


if __name__ == "__main__":
    unittest.main()
