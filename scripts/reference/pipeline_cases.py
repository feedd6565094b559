"""Whole runs of WanPipeline on the tiny directories."""

import torch

from fixture_io import save_tensors
from prompt_cases import PROMPTS
from schedulers import kind_of, replaced
from tiny_models import other_transformer

MAX_SEED = 2**63 - 1

# What a case takes where it says nothing else. width and height are the ones
# asked for; the reference rounds them down to what the model can make.
DEFAULTS = {
    "prompt": PROMPTS["plain"],
    "negative_prompt": None,
    "seed": 0,
    "width": 48,
    "height": 32,
    "num_frames": 1,
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
    "scheduler": None,
    "override": None,
}
NEGATIVE = "blurry, low quality, static"

CASES = [
    ("wan21-image", "tiny-wan21", {}),
    (
        "wan21-image-unguided",
        "tiny-wan21",
        {"width": 32, "height": 48, "num_inference_steps": 2, "guidance_scale": 1.0, "seed": MAX_SEED},
    ),
    ("wan21-guidance-below-one", "tiny-wan21", {"width": 16, "guidance_scale": 0.5, "seed": 11}),
    (
        "wan21-five-frames-negative",
        "tiny-wan21",
        {
            "width": 32,
            "height": 48,
            "num_frames": 5,
            "num_inference_steps": 7,
            "negative_prompt": NEGATIVE,
            "seed": 7,
        },
    ),
    (
        "wan21-nine-frames",
        "tiny-wan21",
        {"width": 32, "height": 16, "num_frames": 9, "guidance_scale": 1.0, "seed": 3},
    ),
    (
        "wan21-thirteen-frames",
        "tiny-wan21",
        {"width": 16, "height": 32, "num_frames": 13, "num_inference_steps": 2, "seed": 13},
    ),
    (
        "wan21-twenty-steps",
        "tiny-wan21",
        {"width": 16, "height": 48, "num_inference_steps": 20, "guidance_scale": 3.5, "seed": 2**32 + 5},
    ),
    ("wan21-fifty-steps", "tiny-wan21", {"width": 16, "num_inference_steps": 50, "seed": 50}),
    (
        "wan21-euler",
        "tiny-wan21",
        {"scheduler": "euler", "num_inference_steps": 7, "width": 32, "num_frames": 5, "seed": 21},
    ),
    (
        "wan21-long-prompt",
        "tiny-wan21",
        {"prompt": PROMPTS["long"], "negative_prompt": PROMPTS["one-over-limit"], "seed": 5},
    ),
    (
        "wan21-prompt-to-clean",
        "tiny-wan21",
        {
            "prompt": " A\u00a0red &amp;amp; blue\tball \u201cfast\u201d caf\u00c3\u00a9 ",
            "width": 32,
            "seed": 6,
        },
    ),
    ("wan21-empty-prompt", "tiny-wan21", {"prompt": "", "negative_prompt": NEGATIVE, "width": 32, "seed": 8}),
    (
        "wan21-frames-rounded",
        "tiny-wan21",
        {"num_frames": 7, "width": 16, "num_inference_steps": 2, "seed": 9},
    ),
    ("wan22-image", "tiny-wan22", {"width": 64}),
    (
        "wan22-size-rounded",
        "tiny-wan22",
        {"width": 32, "height": 48, "num_inference_steps": 7, "guidance_scale": 1.0, "seed": 1},
    ),
    (
        "wan22-five-frames-negative",
        "tiny-wan22",
        {
            "width": 32,
            "height": 32,
            "num_frames": 5,
            "num_inference_steps": 7,
            "negative_prompt": NEGATIVE,
            "seed": MAX_SEED,
        },
    ),
    (
        "wan22-nine-frames-unipc",
        "tiny-wan22",
        {
            "width": 32,
            "num_frames": 9,
            "num_inference_steps": 2,
            "scheduler": "unipc",
            "guidance_scale": 2.0,
            "seed": 4,
        },
    ),
    (
        "wan22-twenty-steps-long-prompt",
        "tiny-wan22",
        {"width": 32, "num_inference_steps": 20, "prompt": PROMPTS["long-no-spaces"], "seed": 20},
    ),
    ("moe-image", "tiny-moe", {}),
    (
        "moe-five-frames-negative",
        "tiny-moe",
        {"width": 32, "num_frames": 5, "num_inference_steps": 7, "negative_prompt": NEGATIVE, "seed": 12},
    ),
    (
        "moe-twenty-steps-unguided",
        "tiny-moe",
        {"width": 16, "height": 48, "num_inference_steps": 20, "guidance_scale": 1.0, "seed": 2},
    ),
    (
        "moe-euler-emoji",
        "tiny-moe",
        {"scheduler": "euler", "prompt": PROMPTS["emoji"], "width": 32, "seed": 14},
    ),
    ("original-same", "tiny-wan21", {"override": "tiny-original/same.safetensors"}),
    ("original-other", "tiny-wan21", {"override": "tiny-original/other.safetensors"}),
]


def run(pipeline, request):
    """Frames `[T,H,W,3]` in [0,1] and the final latents `[1,C,T,H,W]`, still normalised."""
    latents = {}

    def keep(_pipeline, _step, _timestep, values):
        latents["last"] = values["latents"]
        return {}

    frames = pipeline(
        prompt=request["prompt"],
        negative_prompt=request["negative_prompt"],
        width=request["width"],
        height=request["height"],
        num_frames=request["num_frames"],
        num_inference_steps=request["num_inference_steps"],
        guidance_scale=request["guidance_scale"],
        generator=torch.Generator("cpu").manual_seed(request["seed"]),
        output_type="np",
        callback_on_step_end=keep,
    ).frames[0]
    return torch.from_numpy(frames), latents["last"]


def pipeline_cases(root, pipelines):
    """Write `frames` and `latents` of every case; return their entries, seeds as strings."""
    entries = []
    for name, model, changes in CASES:
        request = {**DEFAULTS, **changes}
        pipeline = pipelines[model]
        scheduler, transformer = pipeline.scheduler, pipeline.transformer
        pipeline.scheduler = replaced(scheduler, request["scheduler"])
        if request["override"] and request["override"].endswith("other.safetensors"):
            pipeline.transformer = other_transformer()
        frames, latents = run(pipeline, request)
        entry = {"name": name, "model": model, **request}
        entry["scheduler"] = kind_of(pipeline.scheduler)
        # As text: the largest ones are beyond the exact integers of some JSON readers.
        entry["seed"] = str(request["seed"])
        entry["frames_shape"] = list(frames.shape)
        entry["file"] = f"pipeline/{name}.safetensors"
        pipeline.scheduler, pipeline.transformer = scheduler, transformer
        save_tensors(root / entry["file"], {"frames": frames, "latents": latents})
        entries.append(entry)
    return entries
