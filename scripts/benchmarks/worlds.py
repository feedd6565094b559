"""What the worlds cost that sora-tiny learns from: frames that a core renders, beside what a training takes in."""

import subprocess

from . import page

# Frames of 128×128 that a core is to render in a second (the aim).
AIM = 200
SCENES = 100
# One step of `sora-train vae` with its own settings: clips, and frames of each, cut out of native sizes.
BATCH, FRAMES = 4, 9


def measure(bench):
    bench.build("--bin", "sora-train", "--example", "speed")
    programs = bench.root / "target" / "release"

    def run(program, *arguments):
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return bench.run([str(programs / program), *arguments], {"OMP_WAIT_POLICY": "PASSIVE"}, **quiet)

    def rendering(domain):
        found = run("examples/speed", domain, str(SCENES))
        return found["cpu"] / int(found["printed"])

    def learning(turn):
        """A frame of the VAE's training, its rendering included: what further steps cost, so that no start counts."""
        took = []
        for steps in (2, 8):
            begin = ["vae", "--run", f"vae-{turn}-{steps}", "--steps", str(steps), "--every", "1000", "--held-out", "1"]
            took.append(run("sora-train", *begin, "--batch", str(BATCH), "--frames", str(FRAMES))["cpu"])
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
