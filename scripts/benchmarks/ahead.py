"""Streams whose blocks are decoded while the next ones are denoised, beside one after the other."""

from . import models, page, tools

SIZES = {"sora-tiny": (128, 128), "made model, 151 M": (256, 192)}


def measure(bench):
    rows = []
    for name, model in models.for_a_cpu(bench.root).items():
        width, height = SIZES[name]
        for dtype in ("f32", "bf16"):
            request = models.request(
                model, dtype=dtype, vae_dtype=dtype, width=width, height=height, frames=17,
                repeats=bench.options.repeats, parts=["ahead"],
            )
            times = bench.ours(request)["ahead"]
            after, beside = (times[side]["best_ms"] for side in ("after", "beside"))
            row = [f"{name}, {width}×{height}", dtype, tools.ratio(beside, after)]
            print("  ".join(row), flush=True)
            rows.append(row)
    note = (
        "Endless soragen decodes a block on a thread of its own while the next one is denoised (`crates/sora-engine/src/ahead.rs`); "
        "both sides share the threads that one thing after the other has. Random weights of the models' sizes, 4 steps a block and a "
        "full memory of 9 latent frames; time from frames to frames.\n"
    )
    head = ["model", "format", "decoded ahead / one after the other"]
    return f"## Streams, decoded ahead\n\n{note}\n{page.table(head, rows)}"
