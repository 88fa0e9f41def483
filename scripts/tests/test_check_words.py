import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import check_words


class Find(unittest.TestCase):
    def found(self, text):
        return [(number, word) for number, word, _ in check_words.find(text, check_words.replacements())]

    def test_words_in_names_logs_and_prose(self):
        text = "type graves struct\nfunc (g *gravesList) digUp()\nlog.Warn('a HUNT begins')\n# In this house\nmax_patience = 3\n"
        self.assertEqual(
            self.found(text),
            [(1, "graves"), (2, "graves"), (2, "dig"), (3, "HUNT"), (4, "house"), (5, "patience")],
        )

    def test_parts_of_other_words_are_no_words(self):
        self.assertEqual(self.found("digest engraved warehouse bathrooms HTTPServer mushroom kickoff"), [])

    def test_names_that_users_know_stay(self):
        self.assertEqual(self.found('const checkpointKey = "runqy:fleet:roster"'), [])

    def test_every_word_has_one_replacement(self):
        words = [word for line in check_words.WORDS.strip().splitlines() for word in line.partition(": ")[2].split()]
        self.assertEqual(len(words), len(set(words)))

    def test_names_of_files(self):
        start = os.getcwd()
        self.addCleanup(os.chdir, start)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for name in ("digest.md", "graves_test.md"):
                with open(name, "w", encoding="utf-8") as file:
                    file.write("one\nno verdict\n" if name == "digest.md" else "")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                status = check_words.main(["digest.md", "graves_test.md"])
            os.chdir(start)
        self.assertEqual(status, 1, "exit status")
        self.assertEqual(out.getvalue(), "digest.md:2: verdict: use status\ngraves_test.md:0: graves: use reaper\n")


if __name__ == "__main__":
    unittest.main()
