"""Beside stable-diffusion.cpp on the CPU: a made model of the one size of Wan that both can run there, from the same files."""

import json
import os
import re
import shlex
import subprocess
import sys

from bench_runs import timed

from . import page, tools

CLIP = (128, 128, 5)
STEPS, SEED = 4, 7
# Two threads of ggml wait for each other by spinning: where anything else runs, that measures the other thing.
THREADS = 1
# A special token: one and the same in every vocabulary, with the end of the sentence two.
PROMPT = "<unk>"
# What the row calls ours, and our properties; the options there, and what the row calls them.
ROWS = [
    ("f32", {"dtype": "f32"}, ["--type", "f32"], "f32"),
    ("f32, low-memory", {"dtype": "f32", "low-memory": "true"}, ["--type", "f32"], "f32"),
    ("bf16", {"dtype": "bf16"}, [], "as stored (bf16, VAE f32)"),
]
PROGRESS = re.compile(rb"\b(\d+)/%d - +([\d.]+)(s/it|it/s)" % STEPS)


def ours(bench, model, given, out):
    """Seconds of a step and of the VAE, bytes of the largest resident set."""
    width, height, count = CLIP
    trace = bench.scratch / "trace.json"
    trace.unlink(missing_ok=True)
    properties = {
        "model-path": model, "transformer-file": model / "wan.safetensors", "prompt": PROMPT, "seed": SEED,
        "num-frames": count, "num-inference-steps": STEPS, "guidance-scale": 1, "device": "cpu", **given,
    }
    launch = ["gst-launch-1.0", "-q", "soragen", *(f'{name}="{value}"' for name, value in properties.items())]
    launch += ["!", f"video/x-raw,format=RGB,width={width},height={height}", "!", "filesink", f'location="{out}"']
    shell = f". {shlex.quote(str(bench.root / 'target/sora/env'))} && exec {shlex.join(launch)}"
    environment = {**os.environ, "SORA_TRACE": str(trace), "OMP_NUM_THREADS": str(THREADS)}
    result, _ = timed(["bash", "-c", shell], out, environment)
    spans = {"step": [], "decode": []}
    for event in json.loads(trace.read_text() + "]"):
        if event.get("ph") == "X" and event["name"] in spans:
            spans[event["name"]].append(event["dur"] / 1e6)
    return {"step": min(spans["step"][1:]), "decode": sum(spans["decode"]), "memory": result["peak_bytes"]}


def theirs(bench, model, options, frames):
    """The same of stable-diffusion.cpp, by what it says and when: its first step and its decoding begin with loading."""
    width, height, count = CLIP
    for old in frames.parent.glob(f"{frames.name}-*.png"):
        old.unlink()
    command = [
        bench.options.sdcpp, "-M", "vid_gen", "--diffusion-model", model / "wan.safetensors",
        "--vae", model / "vae/diffusion_pytorch_model.safetensors", "--t5xxl", model / "text_encoder/model.safetensors",
        "--prompt", PROMPT, "--cfg-scale", "1", "--sampling-method", "euler", "--scheduler", "discrete", "--flow-shift", "1",
        "--rng", "cpu", "--seed", SEED, "--width", width, "--height", height, "--video-frames", count, "--steps", STEPS,
        "--threads", THREADS, "--output", f"{frames}-%03d.png", "--verbose", *options,
    ]
    result, lines = timed([str(word) for word in command], frames.with_name(f"{frames.name}-000.png"))
    steps, loaded, decoded = {}, None, None
    for moment, line in lines:
        if found := PROGRESS.search(line):
            rate = float(found[2])
            steps[int(found[1])] = rate if found[3] == b"s/it" else 1 / rate
        elif b"loading tensors completed" in line:
            loaded = moment
        elif b"decode_first_stage completed" in line:
            decoded = moment
    if len(steps) != STEPS or None in (loaded, decoded):
        sys.exit(f"error: {bench.options.sdcpp} does not say how long its steps and its decoding take")
    return {
        "step": min(seconds for number, seconds in steps.items() if number > 1),
        "decode": decoded - loaded,
        "memory": result["peak_bytes"],
    }


def differences(bench, frames, out):
    """Largest and mean difference of the frames of both, in steps of 8 bits."""
    both = out.with_suffix(".theirs")
    bench.launch(
        f"multifilesrc location={frames}-%03d.png caps=image/png,framerate=1/1 ! pngdec ! videoconvert "
        f"! video/x-raw,format=RGB ! filesink location={both}"
    )
    compare = [bench.python, str(bench.root / "scripts" / "reference" / "compare.py"), str(out), str(both)]
    done = subprocess.run(compare, check=True, capture_output=True, text=True)
    largest, mean = re.fullmatch(r"max (\S+) mean (\S+)\s*", done.stdout).groups()
    return f"{255 * float(largest):.0f}, mean {255 * float(mean):.2f}"


def measure(bench):
    if not bench.has_diffusers():
        sys.exit("error: diffusers writes the model of this section, and it is not there")
    model = bench.scratch / "sdcpp"
    reference = bench.root / "scripts" / "reference"
    subprocess.run([bench.python, str(reference / "sdcpp_model.py"), str(model)], check=True)
    out, frames = bench.scratch / "ours.rgb", bench.scratch / "theirs"
    rows = []
    for called, given, options, name in ROWS:
        best = ({}, {})
        for _ in range(bench.options.repeats):
            tools.better(best[0], ours(bench, model, given, out))
            tools.better(best[1], theirs(bench, model, options, frames))
        figures = [tools.ratio(best[0][key], best[1][key]) for key in ("step", "decode", "memory")]
        rows.append([called, name, *figures, differences(bench, frames, out)])
        print("  ".join(rows[-1]), flush=True)
    head = ["ours", "stable-diffusion.cpp", "step", "VAE, a frame", "memory", "largest difference of the frames, of 255"]
    return f"## Beside stable-diffusion.cpp\n\n{NOTE}\n{page.table(head, rows)}"


NOTE = f"""\
Which weights it can run is fixed in its source: a transformer has 30 or 40 layers, or it stops with "invalid num_layers" \
(`WanRunner` in `src/model/diffusion/wan.hpp`), and with them come 1536 channels, 12 heads and 8960 of the feed-forward, or \
what else Wan 2.1 and 2.2 were published with; a VAE has 96 (160 and 256) channels at its widest resolution, 16 (48) in a \
latent, and their means and deviations (`WanVAE` and `get_latents_mean_std` in `src/model/vae/wan_vae.hpp`); text is 4096 \
wide. So it can run neither sora-tiny nor the made model above. Here both run a Wan2.1-T2V-1.3B of random weights from the \
same files (`scripts/reference/sdcpp_model.py`): transformer and VAE of the published sizes, a thin text encoder, which is \
not compared. {"×".join(map(str, CLIP))}, {STEPS} steps of Euler without guidance, {THREADS} thread on both sides, the same noise. \
sd-cli is built for this CPU with `-DGGML_LLAMAFILE=ON`, faster matrix products that its own build leaves off.

Ours / stable-diffusion.cpp. A step is the fastest but the first, which loads there; a prompt of two tokens is padded to 512 \
for the transformer there in each step, while we project it once and count the padding once, with its weight: of the work of \
a step of so small a clip that is a third. The VAE decodes the whole clip; its kernels are f16 there in every format. \
Memory is the largest resident set; with `low-memory` it has the pages of the mapped file that were read in it, which the \
system can take back.
"""
