#!/usr/bin/env python3
"""Runs the Go tests and the Python tests, shows what failed and why, and counts.

usage: scripts/run_tests.py [--first PACKAGES]... [--module DIR]... [--suite DIR:TESTS]... [--] [arguments for go test]

Each --first names packages that begin before those of the arguments, in this order. Each --module is the folder of one
more Go module, whose tests are run with the same arguments. Each --suite is a
folder of Python code and, below it, the folder of its unittest tests. The last line is "N passed, N failed", with
", N skipped" where some were. Exits 1 when a test failed, or when none ran.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import io
import itertools
import json
import os
import re
import subprocess
import sys
from typing import Any, DefaultDict, Dict, Iterable, List, NamedTuple, Optional, TextIO, Tuple


class Count(NamedTuple):
    """How many tests ended in each way."""

    passed: int
    failed: int
    skipped: int


class GoEvents:
    """Reads the events of `go test -json`, one JSON object a line, and prints a line for each finished package.

    A test with subtests is not counted itself, unless it failed and none of them did. A package that fails outside
    its tests (it does not compile, TestMain complains, it runs out of time) counts as one failure.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._output: DefaultDict[Tuple[str, str], List[str]] = collections.defaultdict(
            list
        )  # (package, test) -> what it printed; dropped when it passes
        self._build_output: DefaultDict[str, List[str]] = collections.defaultdict(
            list
        )  # import path -> the compiler's output
        self._results: Dict[
            Tuple[str, str], Optional[str]
        ] = {}  # (package, test) -> "pass", "fail", "skip", or None while it runs
        self._broken: List[str] = []  # packages that failed outside their tests
        self.failures: List[str] = []  # names, in the order in which they failed

    def feed(self, line: str) -> None:
        """Read one line of the output of go test."""
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

    def _finish_package(self, package: str, action: str, event: Dict[str, Any]) -> None:
        tests = [test for (of, test) in self._results if of == package]
        for test in tests:
            if self._results[package, test] is None:
                self._results[package, test] = "fail"
                self._output[package, test].append("(it did not finish)\n")
        counted = [test for test in tests if self._counts(package, test)]
        failed = [test for test in counted if self._results[package, test] == "fail"]

        label = {"pass": "ok  ", "fail": "FAIL", "skip": "none"}[action]
        summary = f"{len(counted)} tests" if counted else "no tests"
        self._out.write(f"{label} {package}  {event.get('Elapsed', 0):.1f}s  ({summary})\n")
        if action == "fail":
            for test in failed:
                self.failures.append(f"{package} {test}")
                self._show(test, self._with_parents(package, test))
            if not failed:
                self._broken.append(package)
                self.failures.append(package)
                self._show("outside the tests", self._build_output.pop(event.get("FailedBuild", ""), []))
            # What the race detector, a panic or TestMain printed after the tests.
            self._show(
                "", [text for text in self._output[package, ""] if not text.startswith(("FAIL", "PASS", "exit status"))]
            )
        for test in tests:
            if test in counted and self._results[package, test] == "skip":
                self._show("skipped: " + test, self._output[package, test])
            self._output.pop((package, test), None)
        self._output.pop((package, ""), None)
        self._out.flush()

    def _with_parents(self, package: str, test: str) -> List[str]:
        parts = test.split("/")
        names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        return [text for name in names for text in self._output[package, name]]

    def _show(self, title: str, lines: Iterable[str]) -> None:
        noise = re.compile(r"^\s*=== (RUN|PAUSE|CONT|NAME) ")
        text = "".join(line for line in lines if not noise.match(line))
        if title:
            self._out.write(f"  --- {title}\n")
        self._out.write("".join("      " + line + "\n" for line in text.splitlines()))

    def _counts(self, package: str, test: str) -> bool:
        below = [name for (of, name) in self._results if of == package and name.startswith(test + "/")]
        if not below:
            return True
        return self._results[package, test] == "fail" and all(self._results[package, name] != "fail" for name in below)

    def count(self) -> Count:
        """The tests so far, over all packages."""
        results = [result for (package, test), result in self._results.items() if self._counts(package, test)]
        return Count(results.count("pass"), results.count("fail") + len(self._broken), results.count("skip"))


def read_unittest(output: str, exit_code: int) -> Count:
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


def run_go(arguments: List[str], module: str = "") -> Tuple[Count, List[str]]:
    """Runs go test, in the folder of another module if one is named; returns its count and the names of what failed.

    What it tells of another module is written at once, at the end: other tests write too.
    """
    command = ["go", "test"] + (["-C", module] if module else []) + ["-json"] + arguments
    out = io.StringIO() if module else sys.stdout
    events = GoEvents(out)
    # Else each test binary with the race detector lingers for a second. What stands later counts.
    env = {**os.environ, "GORACE": "atexit_sleep_ms=0 " + os.environ.get("GORACE", "")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace", env=env
    ) as go:
        assert go.stdout is not None  # a pipe was asked for
        for line in go.stdout:
            events.feed(line)
    if isinstance(out, io.StringIO):
        sys.stdout.write(out.getvalue())
        sys.stdout.flush()
    count = events.count()
    if go.returncode != 0 and count.failed == 0:
        return count._replace(failed=1), [f"go test itself{module and ' in ' + module}: exit code {go.returncode}"]
    return count, events.failures


def with_packages(arguments: List[str], first: List[str]) -> List[str]:
    """Puts packages in front of those that the arguments end with."""
    named = sum(1 for _ in itertools.takewhile(lambda a: a.startswith("."), reversed(arguments)))
    at = len(arguments) - named
    return arguments[:at] + first + arguments[at:]


def run_suite(suite: str) -> Tuple[Count, List[str]]:
    """Runs one folder of Python tests; returns its count and the names of what failed."""
    folder, _, tests = suite.partition(":")
    command = [sys.executable, "-m", "unittest", "discover", "-v", "-s", tests]
    if os.path.exists(os.path.join(folder, tests, "__init__.py")):
        command += ["-t", "."]
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    count = read_unittest(done.stdout, done.returncode)
    name = os.path.join(folder, tests)
    report = f"{'FAIL' if count.failed else 'ok  '} {name}  ({sum(count)} tests)\n"
    if count.failed:
        report += "".join(f"      {line}\n" for line in done.stdout.splitlines()) + "\n"
    sys.stdout.write(report)  # at once: the Go tests write too
    sys.stdout.flush()
    return count, [name] if count.failed else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", action="append", default=[], metavar="PACKAGES")
    parser.add_argument("--module", action="append", default=[], metavar="DIR")
    parser.add_argument("--suite", action="append", default=[], metavar="DIR:TESTS")
    parser.add_argument("go", nargs="*", metavar="arguments for go test")
    options = parser.parse_args()

    counts, failures = [], []
    # All of them wait most of the time: beside the Go tests runs one Python suite at a time, then one module.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as one_by_one:
        beside = [one_by_one.submit(run_suite, suite) for suite in options.suite]
        beside += [one_by_one.submit(run_go, options.go, module) for module in options.module]
        results = [run_go(with_packages(options.go, options.first))]
        results += [other.result() for other in beside]
    for count, failed in results:
        counts.append(count)
        failures += failed
    total = Count(*map(sum, zip(*counts)))
    if failures:
        print("\nfailed:\n" + "".join(f"  {name}\n" for name in failures))
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}", flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
