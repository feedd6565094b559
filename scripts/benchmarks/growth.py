"""How cost grows: with frames, pixels, the window of a stream, and elements at once. sora-tiny on the CPU."""

from . import models, page

FRAMES = [1, 17, 33, 65]
SIZES = [(64, 64), (128, 128), (192, 192), (256, 256)]
WINDOWS = [1, 3, 6, 9, 15, 21]
ELEMENTS = [1, 2, 4]


def measure(bench):
    model = models.of_directory(bench.root / "models" / "sora-tiny")
    patch = model["transformer"]["patch_size"]
    scale = model["vae"]["scale_factor_spatial"]

    def forward(width, height, frames):
        found = bench.ours(models.request(
            model, width=width, height=height, frames=frames, repeats=bench.options.repeats, parts=["forward"]
        ))
        latent = 1 + (frames - 1) // model["vae"]["scale_factor_temporal"]
        tokens = latent * (height // scale // patch[1]) * (width // scale // patch[2])
        return tokens, found["forward"]["best_ms"]

    def rows(cases, base):
        found = {case: forward(*case) for case in cases}
        tokens, time = found[base]
        return [
            [f"{w}×{h}×{f}", n, f"{n / tokens:.2f}", f"{ms / time:.2f}"]
            for (w, h, f), (n, ms) in found.items()
        ]

    base = (128, 128, 17)
    head = ["clip", "tokens", "tokens / native", "one pass / native"]
    text = "## How cost grows\n\nsora-tiny, f32, CPU; against its native clip of 17 frames at 128×128.\n\n"
    text += page.table(head, rows([(128, 128, frames) for frames in FRAMES], base)) + "\n"
    text += page.table(head, rows([(w, h, 17) for w, h in SIZES], base)) + "\n"

    steps = {}
    for window in WINDOWS:
        request = models.request(
            model, width=128, height=128, frames=17, window=window, repeats=bench.options.repeats, parts=["block"]
        )
        steps[window] = bench.ours(request)["block"]["whole"]["best_ms"]
    text += "A block of a stream, one latent frame, four steps and the pass that remembers it, by what the stream remembers:\n\n"
    text += page.table(
        ["latent frames remembered", "block / block with 1"],
        [[window, f"{ms / steps[WINDOWS[0]]:.2f}"] for window, ms in steps.items()],
    ) + "\n"

    several = {}
    clip = "soragen num-frames=17 seed={} prompt=\"a red ball bounces\" device=cpu ! fakesink"
    for turn in range(2):
        for count in ELEMENTS:
            found = bench.launch(" ".join(clip.format(number) for number in range(count)))
            held = several.setdefault(count, found)
            several[count] = {key: min(held[key], found[key]) for key in held}
    one = several[1]
    text += "Elements of one process at once, each a native clip with a seed of its own; they share the weights:\n\n"
    text += page.table(
        ["elements", "wall / one", "processor time / one", "memory / one"],
        [
            [count, *(f"{found[key] / one[key]:.2f}" for key in ("wall", "cpu", "memory"))]
            for count, found in several.items()
        ],
    )
    print(text, flush=True)
    return text
