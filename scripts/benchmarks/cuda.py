"""The published sizes of the Wan family on a GPU, random weights, beside diffusers eager and compiled and beside what
the card's own matrix products and copies reach."""

from . import models, page

SIZES = [(832, 480, 81), (1280, 704, 121)]
# Self-Forcing: blocks of three latent frames, four steps, nine frames remembered.
BLOCK, WINDOW, STEPS = 3, 9, 4
# Decoding ahead takes many blocks in a row, so it is measured where the aims are.
AHEAD = ("Wan2.1-T2V-1.3B", 832)


def flops(transformer, tokens, text):
    """Multiplications and additions of one pass."""
    dim = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    linear = 6 * dim * dim + 2 * dim * transformer["ffn_dim"]
    layer = 2 * tokens * linear + 4 * tokens * tokens * dim + 4 * tokens * text * dim + 4 * text * dim * dim
    return transformer["num_layers"] * layer


def measure(bench):
    device = f"cuda:{bench.options.cuda}"
    rows, blocks, limits = [], [], None
    for name, model in models.PUBLISHED.items():
        for width, height, frames in SIZES:
            request = models.request(
                model, device=device, dtype="bf16", vae_dtype="bf16", width=width, height=height, frames=frames,
                prompt_tokens=512, block=BLOCK, window=WINDOW, steps=STEPS, repeats=bench.options.repeats,
                parts=["forward", "streamed", "fp8", "block", "decode", "tiny"]
                + (["ahead", "ahead_tiny"] if (name, width) == AHEAD else []),
            )
            ours = bench.ours(request)
            theirs = {}
            if bench.has_diffusers():
                theirs = bench.theirs({**request, "compile": True, "limits": limits is None, "parts": ["forward", "decode"]})
            elif bench.python and limits is None:
                theirs = bench.theirs({**request, "limits": True, "parts": []})
            limits = limits or theirs.get("limits")
            scale, patch = model["vae"]["scale_factor_spatial"], model["transformer"]["patch_size"]
            tokens = (1 + (frames - 1) // 4) * (height // scale // patch[1]) * (width // scale // patch[2])
            forward = ours["forward"]["best_ms"]
            rate = flops(model["transformer"], tokens, 512) / forward / 1e9

            def beside(part):
                return f"{forward / theirs[part]['best_ms']:.2f}" if part in theirs else "-"

            used = f"{rate / limits['matmul_tflops']:.0%}" if limits else "-"
            rows.append([
                name, f"{width}×{height}×{frames}", tokens, f"{forward:.0f} ms", beside("forward"),
                beside("forward_compiled"), f"{ours['streamed']['best_ms'] / forward:.2f}",
                f"{ours['fp8']['best_ms'] / forward:.2f}", f"{rate:.0f} TFLOP/s", used,
            ])
            whole, step = ours["block"]["whole"]["best_ms"], ours["block"]["step"]["best_ms"]
            full, tiny = (ours[part]["chunk"]["best_ms"] * BLOCK for part in ("decode", "tiny"))
            made = 4 * BLOCK

            def rates(decoding, part):
                """Frames a second, one after the other and decoded ahead."""
                ahead = f"{made / ours[part]['beside']['best_ms'] * 1e3:.1f}" if part in ours else "-"
                return [f"{made / (whole + decoding) * 1e3:.1f}", ahead]

            blocks.append([
                name, f"{width}×{height}", f"{step:.1f} ms", f"{whole:.0f} ms", f"{full:.0f} ms", f"{tiny:.1f} ms",
                *rates(full, "ahead"), *rates(tiny, "ahead_tiny"),
                f"{STEPS * step + tiny:.0f} ms",
            ])
            print("  ".join(str(cell) for cell in rows[-1] + blocks[-1]), flush=True)
    text = "## CUDA\n\nRandom weights of the published sizes, bf16, batch 1.\n\n"
    text += page.table(
        ["model", "clip", "tokens", "one pass", "/ diffusers", "/ compiled", "low-memory / this", "fp8 / this", "rate", "of the card's products"], rows
    )
    text += (
        f"\nA block of {BLOCK} latent frames, {STEPS} steps and the pass that remembers it, {WINDOW} latent frames of memory. Decoded "
        "ahead: on a second stream of the card, while the next block is denoised.\n\n"
    )
    text += page.table(
        ["model", "size", "step", "block", "decoding it", "by a tiny VAE", "frames/s", "decoded ahead", "frames/s, tiny", "decoded ahead", "first frame, tiny"],
        blocks,
    )
    if limits:
        text += f"\nThis card: {limits['matmul_tflops']:.0f} TFLOP/s of bf16 products, {limits['copy_gb_s']:.0f} GB/s of copies.\n"
    return text
