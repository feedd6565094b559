"""The requests that scripts/bench-against-diffusers measures."""

import json

PROMPT = "a red ball bounces on the grass"
NEGATIVE = "blurry, low quality"


def rows_for(root, scratch):
    """Requests on the embedded model at its native settings, and on the made one."""
    embedded = root / "models" / "sora-tiny"
    native = native_settings(embedded)
    base = {
        "model": embedded,
        "made": False,
        "prompt": PROMPT,
        "negative_prompt": None,
        "seed": 7,
        "width": native["width"],
        "height": native["height"],
        "num_frames": native["num_frames"],
        "num_inference_steps": native["num_inference_steps"],
        "guidance_scale": native["guidance_scale"],
        "max_sequence_length": native["max_sequence_length"],
    }
    made = {
        **base,
        "model": scratch / "model",
        "made": True,
        "width": 256,
        "height": 192,
        "num_frames": 9,
        "num_inference_steps": 8,
        "guidance_scale": 1.0,
        "max_sequence_length": 512,
    }
    rows = [
        ("sora-tiny, native clip", {}),
        ("sora-tiny, 1 frame", {"num_frames": 1}),
        ("sora-tiny, twice as long", {"num_frames": 2 * native["num_frames"] - 1}),
        ("sora-tiny, guidance 5", {"guidance_scale": 5.0, "negative_prompt": NEGATIVE}),
        ("sora-tiny, no guidance", {"guidance_scale": 1.0}),
        ("sora-tiny, 20 steps", {"num_inference_steps": 20}),
    ]
    made_rows = [
        ("made model, 9 frames", {}),
        (
            "made model, 1 frame, guidance 5",
            {"num_frames": 1, "guidance_scale": 5.0, "negative_prompt": NEGATIVE},
        ),
        ("made model, 33 frames", {"num_frames": 33, "num_inference_steps": 4}),
    ]
    found = [{**base, "name": name, **changes} for name, changes in rows] if native["found"] else []
    return found + [{**made, "name": name, **changes} for name, changes in made_rows]


def native_settings(model):
    """What `sora.json` of a model says, with the reference's defaults where it is silent."""
    settings = {
        "width": 832,
        "height": 480,
        "num_frames": 81,
        "num_inference_steps": 50,
        "guidance_scale": 5.0,
        "max_sequence_length": 512,
        "found": model.is_dir(),
    }
    path = model / "sora.json"
    if path.exists():
        settings.update(json.loads(path.read_text()))
    if not settings["found"]:
        print(f"skipped: {model.name} is not there, so its rows are left out")
    return settings
