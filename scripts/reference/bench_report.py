"""The text of docs/benchmark-diffusers.md."""

import os
import subprocess
import time

HEAD = [
    "request",
    "wall, ours",
    "wall, diffusers",
    "wall ratio",
    "step, ours",
    "step, diffusers",
    "memory, ours",
    "memory, diffusers",
    "memory ratio",
    "largest difference of the frames",
]


# Run by the reference's interpreter, which is not the one that runs this.
VERSIONS = """
import platform, diffusers, torch, transformers
print(torch.__version__, diffusers.__version__, transformers.__version__, platform.python_version())
"""


def machine(python):
    """Lines that say what the figures were measured on."""
    model = "an unnamed CPU"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = subprocess.run(
        [python, "-c", VERSIONS], capture_output=True, text=True, check=True
    ).stdout.split()
    return [
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB; load average before the runs {os.getloadavg()[0]:.1f}",
        "Python side: torch {}, diffusers {}, transformers {}, Python {}".format(*versions),
    ]


def cells(row):
    ours, theirs = row["ours"], row["theirs"]

    def step(side):
        return "-" if side["step_s"] is None else f"{side['step_s'] * 1000:.0f} ms"

    return [
        row["name"],
        f"{ours['wall_s']:.2f} s",
        f"{theirs['wall_s']:.2f} s",
        f"{ours['wall_s'] / theirs['wall_s']:.2f}",
        step(ours),
        step(theirs),
        f"{ours['peak_bytes'] / 2**20:.0f} MiB",
        f"{theirs['peak_bytes'] / 2**20:.0f} MiB",
        f"{ours['peak_bytes'] / theirs['peak_bytes']:.2f}",
        row["difference"].replace("max ", "").split(" mean")[0],
    ]


def row_line(row):
    return "  ".join(f"{head}: {cell}" for head, cell in zip(["row", *HEAD[1:]], cells(row)))


def report(rows, machine_lines, options):
    table = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1)] + [cells(row) for row in rows]
    threads = (
        f"{options.threads} threads on both sides" if options.threads else "threads as each side chooses"
    )
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join(
        [
            "# Beside Python diffusers",
            "",
            "Written by `scripts/bench-against-diffusers`; run it to measure your own machine.",
            "The same model directory, prompt, seed and settings on both sides, f32 on the CPU:",
            "`gst-launch-1.0 soragen ! video/x-raw,format=RGB ! filesink` against `WanPipeline`.",
            "",
            *[f"- {line}" for line in machine_lines],
            f"- {date}, median of {options.repeats} runs each, taken in turn, {threads}",
            "",
            *["| " + " | ".join(line) + " |" for line in table],
            "",
            "Wall time runs from the start of the process to the last frame on disk: loading",
            "counts. Memory is the largest resident set that the kernel reports (wait4). Step is",
            "the median time of a denoising step, with both passes where guidance is on. The",
            "frames are compared as 8-bit RGB in [0,1]: one step of the 8 bits is 0.0039.",
            "",
        ]
    )
