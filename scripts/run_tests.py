#!/usr/bin/env python3
"""Runs the Go tests and the Python tests, shows what failed and why, and counts.

usage: scripts/run_tests.py [--module DIR]... [--suite DIR:TESTS]... [--] [arguments for go test]

Each --module is the folder of one more Go module, whose tests are run with the same arguments. Each --suite is a folder of Python code and, below it, the folder of its unittest tests. The last line is
"N passed, N failed", with ", N skipped" where some were. Exits 1 when a test failed, or when none ran.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys

Count = collections.namedtuple("Count", "passed failed skipped")


class GoEvents:
    """Reads the events of `go test -json`, one JSON object a line, and prints a line for each finished package.

    A test with subtests is not counted itself, unless it failed and none of them did. A package that fails outside
    its tests (it does not compile, TestMain complains, it runs out of time) counts as one failure.
    """

    def __init__(self, out):
        self._out = out
        self._output = collections.defaultdict(list)  # (package, test) -> what it printed; dropped when it passes
        self._build_output = collections.defaultdict(list)  # import path -> what the compiler said
        self._results = {}  # (package, test) -> "pass", "fail", "skip", or None while it runs
        self._broken = []  # packages that failed outside their tests
        self.failures = []  # names, in the order in which they failed

    def feed(self, line):
        try:
            event = json.loads(line)
            action = event["Action"]
        except (ValueError, TypeError, KeyError):
            self._out.write(line)
            return
        if action == "build-output":
            self._build_output[event["ImportPath"]].append(event["Output"])
            return
        if "Package" not in event:
            return
        package, test = event["Package"], event.get("Test", "")
        if action == "output":
            self._output[package, test].append(event["Output"])
        elif not test and action in ("pass", "fail", "skip"):
            self._finish_package(package, action, event)
        elif test and action == "run":
            self._results[package, test] = None
        elif test and action in ("pass", "fail", "skip"):
            self._results[package, test] = action
            if action == "pass":
                self._output.pop((package, test), None)

    def _finish_package(self, package, action, event):
        tests = [test for (owner, test) in self._results if owner == package]
        for test in tests:
            if self._results[package, test] is None:
                self._results[package, test] = "fail"
                self._output[package, test].append("(it did not finish)\n")
        counted = [test for test in tests if self._counts(package, test)]
        failed = [test for test in counted if self._results[package, test] == "fail"]

        label = {"pass": "ok  ", "fail": "FAIL", "skip": "none"}[action]
        note = "%d tests" % len(counted) if counted else "no tests"
        self._out.write("%s %s  %.1fs  (%s)\n" % (label, package, event.get("Elapsed", 0), note))
        if action == "fail":
            for test in failed:
                self.failures.append("%s %s" % (package, test))
                self._show(test, self._with_parents(package, test))
            if not failed:
                self._broken.append(package)
                self.failures.append(package)
                self._show("outside the tests", self._build_output.pop(event.get("FailedBuild"), []))
            # The race detector, a panic or TestMain may have had the last word after the tests had theirs.
            self._show("", [text for text in self._output[package, ""] if not text.startswith(("FAIL", "PASS", "exit status"))])
        for test in tests:
            if test in counted and self._results[package, test] == "skip":
                self._show("skipped: " + test, self._output[package, test])
            self._output.pop((package, test), None)
        self._output.pop((package, ""), None)
        self._out.flush()

    def _with_parents(self, package, test):
        parts = test.split("/")
        names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        return [text for name in names for text in self._output[package, name]]

    def _show(self, title, lines):
        noise = re.compile(r"^\s*=== (RUN|PAUSE|CONT|NAME) ")
        text = "".join(line for line in lines if not noise.match(line))
        if title:
            self._out.write("  --- %s\n" % title)
        self._out.write("".join("      " + line + "\n" for line in text.splitlines()))

    def _counts(self, package, test):
        below = [name for (owner, name) in self._results if owner == package and name.startswith(test + "/")]
        if not below:
            return True
        return self._results[package, test] == "fail" and all(self._results[package, name] != "fail" for name in below)

    def count(self):
        results = [result for (package, test), result in self._results.items() if self._counts(package, test)]
        return Count(results.count("pass"), results.count("fail") + len(self._broken), results.count("skip"))


def read_unittest(output, exit_code):
    """Counts from what `python -m unittest` wrote to its standard error."""
    ran = re.search(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    last = re.search(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?\s*$", output, re.MULTILINE)
    if not ran or not last:
        return Count(0, 1, 0)
    numbers = dict(part.split("=") for part in last.group(1).split(", ")) if last.group(1) else {}
    skipped = int(numbers.get("skipped", 0))
    failed = sum(int(numbers.get(kind, 0)) for kind in ("failures", "errors", "unexpected successes"))
    if exit_code != 0 and failed == 0:
        failed = 1
    return Count(max(int(ran.group(1)) - failed - skipped, 0), failed, skipped)


def run_go(arguments, module=""):
    """Runs go test, in the folder of another module if one is named; returns its count and the names of what failed."""
    command = ["go", "test"] + (["-C", module] if module else []) + ["-json"] + arguments
    events = GoEvents(sys.stdout)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace") as go:
        for line in go.stdout:
            events.feed(line)
    count = events.count()
    if go.returncode != 0 and count.failed == 0:
        return count._replace(failed=1), ["go test itself%s: exit code %d" % (module and " in " + module, go.returncode)]
    return count, events.failures


def run_suite(suite):
    """Runs one folder of Python tests; returns its count and the names of what failed."""
    folder, _, tests = suite.partition(":")
    command = [sys.executable, "-m", "unittest", "discover", "-v", "-s", tests]
    if os.path.exists(os.path.join(folder, tests, "__init__.py")):
        command += ["-t", "."]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace")
    count = read_unittest(done.stdout, done.returncode)
    name = os.path.join(folder, tests)
    report = "%s %s  (%d tests)\n" % ("FAIL" if count.failed else "ok  ", name, sum(count))
    if count.failed:
        report += "".join("      " + line + "\n" for line in done.stdout.splitlines()) + "\n"
    sys.stdout.write(report)  # at once: the Go tests write too
    sys.stdout.flush()
    return count, [name] if count.failed else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", default=[], metavar="DIR")
    parser.add_argument("--suite", action="append", default=[], metavar="DIR:TESTS")
    parser.add_argument("go", nargs="*", metavar="arguments for go test")
    options = parser.parse_args()

    counts, failures = [], []
    # The Python tests wait most of the time, as the Go tests do: one suite at a time runs beside them.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as beside:
        suites = [beside.submit(run_suite, suite) for suite in options.suite]
        results = [run_go(options.go)]
        results += [run_go(options.go, module) for module in options.module]
        results += [suite.result() for suite in suites]
    for count, failed in results:
        counts.append(count)
        failures += failed
    total = Count(*map(sum, zip(*counts)))
    if failures:
        print("\nfailed:\n" + "".join("  %s\n" % name for name in failures))
    skipped = ", %d skipped" % total.skipped if total.skipped else ""
    print("%d passed, %d failed%s" % (total.passed, total.failed, skipped), flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
