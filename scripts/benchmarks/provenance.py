"""Marking and verifying: per frame of 1080p and per gigabyte. Signing has scripts/bench-signing."""

import shlex
import subprocess

from . import measured, page

FRAMES = 240
SOURCE = f"videotestsrc num-buffers={FRAMES} ! video/x-raw,format=I420,width=1920,height=1080,framerate=60/1"
# Bare frames of 720p: a gigabyte is 543 of them.
BARE = (
    "videotestsrc pattern=black num-buffers=543 ! video/x-raw,format=UYVY,width=1280,height=720,framerate=25/1 ! qtmux"
)


def measure(bench):
    turns = max(2, bench.options.repeats // 2)

    def least(pipelines):
        found = {}
        for _ in range(turns):
            for name, pipeline in pipelines.items():
                new = bench.launch(pipeline)
                held = found.setdefault(name, new)
                found[name] = {key: min(held[key], new[key]) for key in held}
        return found

    marks = least({
        "bare": f"{SOURCE} ! fakesink",
        "sorawatermark": f"{SOURCE} ! sorawatermark ! fakesink",
        "x264enc, medium, 2 threads": f"{SOURCE} ! x264enc threads=2 ! fakesink",
        "x264enc, veryfast, 2 threads": f"{SOURCE} ! x264enc threads=2 speed-preset=veryfast ! fakesink",
    })
    def over(name):
        return (marks[name]["cpu"] - marks["bare"]["cpu"]) / FRAMES

    own = over("sorawatermark")
    rows = [
        [name, f"{own / over(name):.2f}"] for name in marks if name not in ("bare", "sorawatermark")
    ]
    text = (
        "## Marking and verifying\n\nProcessor time of a frame of 1080p, what the source costs taken off, beside that of "
        "encoding it:\n\n"
        + page.table(["element", "sorawatermark / this"], rows)
        + "\n"
    )

    bench.launch(f"{BARE} ! sorasign max-megabytes=4000 verify=false ! filesink location=signed.mp4")
    file = bench.scratch / "signed.mp4"
    environment = f". {shlex.quote(str(bench.root / 'target/sora/env'))} && "
    programs = {
        "cat": f"exec cat {file}",
        "sha256sum": f"exec sha256sum {file}",
        "soraverify --manifest-only": environment + f"exec soraverify --manifest-only {file}",
    }
    times = {}
    for _ in range(turns):
        for name, command in programs.items():
            # soraverify says by its status what it thinks of the signer; more than 31 is a failure.
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            wall = measured.run(["bash", "-c", command], lambda code: 0 <= code <= 31, **quiet).wall
            times[name] = min(wall, times.get(name, wall))
    verifying = times["soraverify --manifest-only"]
    text += (
        "A signed gigabyte of bare frames, in the disk's cache, read again. What signing it costs has "
        "[a page of its own](benchmark-signing.md).\n\n"
    )
    text += page.table(
        ["what", "beside", "wall"],
        [["soraverify", name, f"{verifying / times[name]:.2f}"] for name in ("sha256sum", "cat")],
    )
    print(text, flush=True)
    return text
