"""A stream whose blocks are decoded while the next ones are denoised, beside one after the other."""

from . import models, page, tools

WIDTH, HEIGHT = 128, 128


def measure(bench):
    rows = []
    model = models.of_directory(bench.root / "models" / "sora-tiny")
    for dtype in ("f32", "bf16"):
        request = models.request(
            model, dtype=dtype, vae_dtype=dtype, width=WIDTH, height=HEIGHT, frames=17, repeats=bench.options.repeats, parts=["ahead"]
        )
        times = bench.ours(request)["ahead"]
        row = [dtype, tools.ratio(times["beside"]["best_ms"], times["after"]["best_ms"])]
        print("  ".join(row), flush=True)
        rows.append(row)
    note = (
        f"Endless soragen decodes a block on a thread of its own while the next one is denoised (`crates/sora-engine/src/ahead.rs`); both "
        f"have as many threads as one thing after the other has. sora-tiny at {WIDTH}×{HEIGHT}, 4 steps a block, a full memory of 9 latent "
        "frames; time from frames to frames.\n"
    )
    return f"## Streams, decoded ahead\n\n{note}\n{page.table(['format', 'decoded ahead / one after the other'], rows)}"
