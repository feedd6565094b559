"""docs/benchmarks.md: a section for each thing that is measured, replaced when it is measured again."""

import os
import re

ORDER = ["clips", "parts", "sdcpp", "stages", "ahead", "growth", "worlds", "provenance", "cuda"]
HEAD = """# What things cost

Written by `scripts/bench`. Ratios are of two things taken in turn in one run, the fastest of several, since the machines
are shared; absolute times are given of a GPU only. Below 1 is less than the other.
Other pages: [streaming](benchmark-streaming.md), [signing](benchmark-signing.md), [the watermark under attack](benchmark-watermark.md).
"""
MARK = "<!-- section: {} -->\n"


def table(head, rows):
    """A table in Markdown: the first column to the left, numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def put(path, name, text, about):
    """Replaces one section, and leaves the others as they are."""
    sections = {}
    if path.exists():
        pieces = re.split(r"<!-- section: (\w+) -->\n", path.read_text())
        sections = dict(zip(pieces[1::2], pieces[2::2]))
    sections[name] = f"{text.rstrip()}\n\n{about}\n\n"
    whole = HEAD + "\n" + "".join(MARK.format(key) + sections[key] for key in ORDER if key in sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(whole.rstrip() + "\n")
    os.replace(fresh, path)
