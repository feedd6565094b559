"""Whole clips on the CPU, beside Python diffusers: from the start of the process to the first frame and to the last."""

import os
import shlex
import statistics
import subprocess
import sys
import time

from bench_rows import rows_for
from bench_runs import run_ours, run_theirs

from . import page, tools

PROMPT = "a red ball bounces on the grass"


def first_and_last(bench, properties, size):
    """Seconds from the start of gst-launch-1.0 to the first byte of a frame and to the last."""
    caps = f"video/x-raw,format=RGB,width={size[0]},height={size[1]}"
    given = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in properties.items())
    pipeline = f"soragen {given} ! {caps} ! fdsink fd=1"
    shell = f". {shlex.quote(str(bench.root / 'target/sora/env'))} && exec gst-launch-1.0 -q {pipeline}"
    began = time.monotonic()
    process = subprocess.Popen(["bash", "-c", shell], stdout=subprocess.PIPE, bufsize=0)
    first = None
    while data := os.read(process.stdout.fileno(), 1 << 20):
        first = first or time.monotonic() - began
        last = time.monotonic() - began
    if process.wait() != 0 or not data == b"" or first is None:
        sys.exit(f"error: this pipeline failed: {pipeline}")
    return first, last


def measure(bench):
    reference = bench.root / "scripts" / "reference"
    rows = []
    wanted = rows_for(bench.root, bench.scratch)
    if any(row["made"] for row in wanted) and bench.has_diffusers():
        subprocess.run([bench.python, str(reference / "bench_model.py"), str(bench.scratch / "model")], check=True)
    for row in wanted:
        if row["made"] and not bench.has_diffusers():
            continue
        properties = {
            "model-path": row["model"], "prompt": PROMPT, "seed": 7, "num-frames": row["num_frames"],
            "num-inference-steps": row["num_inference_steps"], "guidance-scale": row["guidance_scale"],
            "device": "cpu", "dtype": "f32",
        }
        ours, theirs, firsts = [], [], []
        for turn in range(-1, max(2, bench.options.repeats // 2)):
            results = [("ours", lambda: run_ours(bench.root, row, bench.scratch / "ours.rgb", None))]
            if bench.has_diffusers():
                results.append(
                    ("theirs", lambda: run_theirs(reference, bench.python, row, bench.scratch / "theirs.rgb", None))
                )
            for side, run in results if turn % 2 else reversed(results):
                found = run()
                if turn >= 0:
                    (ours if side == "ours" else theirs).append(found)
            first, last = first_and_last(bench, properties, (row["width"], row["height"]))
            if turn >= 0:
                firsts.append(first / last)
        def least(side, key):
            values = [found[key] for found in side if found[key] is not None]
            return min(values) if values else None

        cells = [row["name"]]
        for key in ("wall_s", "step_s", "peak_bytes"):
            a, b = least(ours, key), least(theirs, key)
            cells.append(tools.ratio(a, b) if a and b else "-")
        cells.append(f"{statistics.median(firsts):.2f}")
        print("  ".join(cells), flush=True)
        rows.append(cells)
    note = (
        "The same model directory, prompt, seed and settings, both f32 on the CPU: `gst-launch-1.0 soragen ! filesink` against "
        "`WanPipeline`; ours / diffusers. Wall time is from the start of the process to the last byte on disk, memory the largest "
        "resident set. The last column is when our first frame is out, as a share of our whole clip: diffusers hands out all frames "
        "at the end. Frames are compared by `scripts/bench-against-diffusers`, which has the times behind these ratios.\n"
    )
    head = ["request", "wall", "step", "memory", "first frame after"]
    return f"## Whole clips, beside Python diffusers\n\n{note}\n{page.table(head, rows)}"
