#!/usr/bin/env python3
"""Finds words that hide the term of the field, in names (of files too), logs, comments and docs.

usage: scripts/check_words.py [FILE]...

Without files it reads every file that git tracks. Each finding is a line FILE:LINE: WORD, with the word to use; LINE
is 0 for the name of the file. Exits 1 when there are findings. CONTRIBUTING.md says why.
"""

import re
import subprocess
import sys

# The first word of each line is what to write; the others are what is found, in every form that is written out.
WORDS = """
reaper: grave graves
reap: bury buries buried burying burial burials
recover: dig digs dug digging
checkpoint: roster rosters sketch sketches
observation: sighting sightings
status: verdict verdicts
stop: hush hushes hushed
check: weigh weighs weighed weighing
reset: forgive forgives forgave forgiven
in-flight table: ledger ledgers
process tree: hunt hunts hunted hunting
successor: heir heirs
timeout: patience impatient
package: house
grace period: calm calmer calmly
request: nudge nudges nudged
wake: kick kicks kicked
wary: suspicious
stall detector: pulse pulses
output: stray strays
close: dismiss dismisses dismissed
taken from: robbed
unhealthy: sick
unreachable: deaf
"""

# What users know by these names stays.
KNOWN = ("runqy:fleet:roster",)

# These speak of the words themselves.
EXEMPT = ("scripts/check_words.py", "scripts/tests/test_check_words.py")

TEXT = (
    ".css",
    ".go",
    ".html",
    ".js",
    ".json",
    ".lua",
    ".md",
    ".proto",
    ".py",
    ".service",
    ".sh",
    ".tmpl",
    ".toml",
    ".yaml",
    ".yml",
)

# A run of letters is split where a small letter is followed by a capital, and before the last of several capitals.
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def replacements():
    """Returns the word to use for each word that is found."""
    table = {}
    for line in WORDS.strip().splitlines():
        use, _, found = line.partition(": ")
        for word in found.split():
            table[word] = use
    return table


def find(text, table):
    """Yields the number of the line, the word as it stands there and the word to use, for each word of the table."""
    for number, line in enumerate(text.splitlines(), 1):
        for name in KNOWN:
            line = line.replace(name, "")
        for part in PART.findall(line):
            if part.lower() in table:
                yield number, part, table[part.lower()]


def tracked_files():
    """Returns the names of the files that git tracks and that hold words."""
    listed = subprocess.run(
        ["git", "ls-files"], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout.splitlines()
    return [name for name in listed if name.endswith(TEXT) or "." not in name.rpartition("/")[2]]


def main(names):
    table = replacements()
    findings = 0
    for name in names or tracked_files():
        if name in EXEMPT:
            continue
        with open(name, encoding="utf-8", errors="replace") as file:
            found = [(0, word, use) for _, word, use in find(name, table)] + list(find(file.read(), table))
        for number, word, use in found:
            findings += 1
            print(f"{name}:{number}: {word}: use {use}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
