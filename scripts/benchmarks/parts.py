"""The parts of a model on the CPU, beside those of diffusers: one pass, the text encoder, the VAE both ways."""

from . import models, page, tools

WHAT = {
    "text": "text encoder",
    "forward": "one pass of the transformer",
    "encode": "VAE, encoding a frame",
    "decode": "VAE, decoding a frame",
}
SIZES = {"sora-tiny": (128, 128, 17), "made model, 151 M": (256, 192, 9)}


def best(figures):
    chunk = figures.get("chunk", figures)
    return chunk["best_ms"] / figures.get("frames", 1)


def measure(bench):
    rows = []
    found_models = {
        "sora-tiny": models.of_directory(bench.root / "models" / "sora-tiny"),
        "made model, 151 M": models.MADE,
    }
    for name, model in found_models.items():
        width, height, frames = SIZES[name]
        for dtype in ("f32", "bf16"):
            request = models.request(
                model, dtype=dtype, vae_dtype=dtype, width=width, height=height, frames=frames,
                repeats=bench.options.repeats, parts=list(WHAT),
            )
            ours, theirs = bench.in_turn(request)
            for part, what in WHAT.items():
                beside = tools.ratio(best(ours[part]), best(theirs[part])) if part in theirs else "-"
                row = [f"{name}, {width}×{height}×{frames}", what, dtype, beside]
                print("  ".join(row), flush=True)
                rows.append(row)
    note = (
        "Random weights of the models' sizes, batch 1, the threads that each side chooses. A prompt of 16 tokens: diffusers pads "
        "it to 512 for the transformer, we count the padding once, with its weight. A frame of the VAE is one of the four of a "
        "latent frame in the middle of a clip.\n"
    )
    head = ["model", "part", "format", "ours / diffusers"]
    return f"## Parts on the CPU\n\n{note}\n{page.table(head, rows)}"
