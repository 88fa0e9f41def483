"""Every relative link in the documentation leads to a file, and to a heading in it."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages():
    patterns = ["*.md", "docs/**/*.md", "python/README.md", "deploy/**/README.md"]
    return sorted(page for pattern in patterns for page in ROOT.glob(pattern))


def anchors(page):
    """The anchors that GitHub makes of the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


class Links(unittest.TestCase):
    def test_lead_somewhere(self):
        broken = []
        for page in pages():
            for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, anchor = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                if not target.exists() or anchor and anchor not in anchors(target):
                    broken.append(f"{page.relative_to(ROOT)}: {link}")
        self.assertEqual(broken, [])


if __name__ == "__main__":
    unittest.main()
