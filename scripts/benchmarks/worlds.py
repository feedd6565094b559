"""What the worlds cost that sora-tiny learns from: frames that a core renders, beside what a training takes in."""

import os
import subprocess
import sys

from . import page

# Frames of 128×128 that a core is to render in a second (the aim).
AIM = 200
SCENES = 100
# One step of `sora-train vae` with its own settings: clips, and frames of each, cut out of native sizes.
BATCH, FRAMES = 4, 9


def processor_seconds(command, root):
    """Of a program that is to end well; and what it printed."""
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, printed


def measure(bench):
    build = ["cargo", "build", "--release", "--locked", "--workspace", "--bin", "sora-train", "--example", "speed"]
    subprocess.run(build, cwd=bench.root, check=True)
    programs = bench.root / "target" / "release"

    def rendering(domain):
        seconds, frames = processor_seconds([str(programs / "examples" / "speed"), domain, str(SCENES)], bench.root)
        return seconds / int(frames)

    def learning(turn):
        """A frame of the VAE's training, its rendering included: what further steps cost, so that no start counts."""
        took = []
        for steps in (2, 8):
            run = bench.scratch / f"vae-{turn}-{steps}"
            command = [str(programs / "sora-train"), "vae", "--run", str(run), "--steps", str(steps)]
            command += ["--batch", str(BATCH), "--frames", str(FRAMES), "--every", "1000", "--held-out", "1"]
            took.append(processor_seconds(command, bench.root)[0])
        return (took[1] - took[0]) / (6 * BATCH * FRAMES)

    least = {}
    for turn in range(bench.options.repeats):
        found = {"core": rendering("core"), "full": rendering("full"), "vae": learning(turn)}
        least = {name: min(seconds, least.get(name, seconds)) for name, seconds in found.items()}
    rows = []
    for domain in ("core", "full"):
        rows.append([domain, f"{1 / least[domain] / AIM:.2f}", f"{least['vae'] / least[domain]:.1f}"])
        print("  ".join(rows[-1]), flush=True)
    note = (
        f"`crates/sora-world` on one thread, {SCENES} scenes of 17 frames at 128×128, by processor time. The aim was {AIM} frames a "
        "second and core. Beside it what a frame costs a step of the VAE's training, which takes them in fastest.\n"
    )
    head = ["scenes of", "frames a second / the aim", "a frame of the training / rendering one"]
    return f"## Worlds\n\n{note}\n{page.table(head, rows)}"
