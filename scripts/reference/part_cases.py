"""Inputs and outputs of the single parts: transformer, VAE, text encoder, schedulers.

Each function writes safetensors files under `root` and returns the entries of
`cases.json` that describe them.
"""

import torch

from fixture_io import randn, save_tensors
from schedulers import make_scheduler
from tiny_models import other_transformer

STEPS = [2, 3, 4, 5, 10, 20, 50]
SHIFTS = [1.0, 3.0, 5.0, 8.0, 12.0]

# name, batch, latent frames, latent height, latent width, text length
TRANSFORMER_SHAPES = [
    ("image", 1, 1, 6, 10, 7),
    ("batch", 2, 2, 8, 4, 12),
    ("three-frames", 1, 3, 4, 6, 5),
    ("four-frames", 2, 4, 2, 6, 9),
    ("full-text", 1, 1, 4, 4, 512),
]

# name, batch, latent frames, latent height, latent width
DECODE_SHAPES = [
    ("image", 1, 1, 3, 2),
    ("two-latents", 2, 2, 1, 2),
    ("three-latents", 1, 3, 2, 1),
    ("four-latents", 1, 4, 1, 2),
]

# name, batch, frames, height and width in units of the spatial scale factor
ENCODE_SHAPES = [
    ("image", 1, 1, 2, 3),
    ("five-frames", 2, 5, 2, 1),
    ("nine-frames", 1, 9, 1, 2),
    ("thirteen-frames", 1, 13, 2, 1),
]


def timesteps_for(batch, tokens, per_token):
    """Whole and fractional timesteps; per token they differ from frame to frame."""
    values = torch.tensor([999.0, 437.25, 12.0, 0.0, 873.0])
    if not per_token:
        return values[:batch]
    index = torch.arange(batch * tokens).reshape(batch, tokens) * 7 // 5
    return values[index % len(values)]


@torch.no_grad()
def transformer_cases(root, name, transformer, second=None):
    """`hidden_states [B,C,T,H,W]`, `timestep [B]` or `[B,seq]`, `encoder_hidden_states [B,L,D]` → `sample`."""
    entries = []
    config = transformer.config
    for suffix, model in [("", transformer), ("-2", second)]:
        if model is None:
            continue
        for shape_name, batch, frames, height, width, text in TRANSFORMER_SHAPES:
            for per_token in (False, True):
                if suffix and (per_token or shape_name != "batch"):
                    continue
                if per_token and shape_name == "full-text":
                    continue
                case = f"{name}{suffix}-{shape_name}" + ("-per-token" if per_token else "")
                tokens = frames * (height // 2) * (width // 2)
                inputs = {
                    "hidden_states": randn(f"{case}/x", batch, config.in_channels, frames, height, width),
                    "timestep": timesteps_for(batch, tokens, per_token),
                    "encoder_hidden_states": randn(f"{case}/text", batch, text, config.text_dim),
                }
                sample = model(**inputs, return_dict=False)[0]
                file = f"transformer/{case}.safetensors"
                save_tensors(root / file, {**inputs, "sample": sample})
                entries.append(
                    {
                        "name": case,
                        "model": name,
                        "component": "transformer_2" if suffix else "transformer",
                        "file": file,
                        "per_token_timesteps": per_token,
                    }
                )
    return entries


@torch.no_grad()
def original_cases(root):
    """The weights of `tiny-original/other.safetensors`, read under the original names."""
    inputs = {
        "hidden_states": randn("original/x", 1, 16, 2, 4, 6),
        "timestep": torch.tensor([731.0]),
        "encoder_hidden_states": randn("original/text", 1, 8, 24),
    }
    sample = other_transformer()(**inputs, return_dict=False)[0]
    file = "transformer/tiny-original-other.safetensors"
    save_tensors(root / file, {**inputs, "sample": sample})
    return [
        {
            "name": "tiny-original-other",
            "model": "tiny-wan21",
            "component": "transformer",
            "override": "tiny-original/other.safetensors",
            "file": file,
            "per_token_timesteps": False,
        }
    ]


@torch.no_grad()
def vae_cases(root, name, vae):
    """Encode: `pixels` → `moments`, `mode`. Decode: `latents` → `pixels`. All [B,C,T,H,W], pixels in [-1,1]."""
    entries = []
    scale = vae.config.scale_factor_spatial
    for shape_name, batch, frames, rows, columns in ENCODE_SHAPES:
        case = f"{name}-encode-{shape_name}"
        pixels = torch.tanh(randn(f"{case}/x", batch, 3, frames, rows * scale, columns * scale))
        posterior = vae.encode(pixels).latent_dist
        file = f"vae/{case}.safetensors"
        save_tensors(
            root / file, {"pixels": pixels, "moments": posterior.parameters, "mode": posterior.mode().clone()}
        )
        entries.append({"name": case, "model": name, "operation": "encode", "file": file})
    for shape_name, batch, frames, height, width in DECODE_SHAPES:
        case = f"{name}-decode-{shape_name}"
        latents = randn(f"{case}/z", batch, vae.config.z_dim, frames, height, width)
        pixels = vae.decode(latents, return_dict=False)[0]
        file = f"vae/{case}.safetensors"
        save_tensors(root / file, {"latents": latents, "pixels": pixels})
        entries.append({"name": case, "model": name, "operation": "decode", "file": file})
    return entries


@torch.no_grad()
def text_encoder_cases(root, name, text_encoder):
    """`input_ids [B,L]` i64, `attention_mask [B,L]` i64 of ones then zeros → `last_hidden_state [B,L,D]`."""
    entries = []
    vocab = text_encoder.config.vocab_size
    for shape_name, length, real in [
        ("one-token", 1, [1]),
        ("short", 16, [16, 3]),
        ("long", 160, [160, 97]),
        ("padded", 512, [11]),
        ("full", 512, [512]),
    ]:
        if shape_name == "full" and name != "tiny-wan21":
            continue
        case = f"{name}-{shape_name}"
        mask = torch.tensor([[1] * count + [0] * (length - count) for count in real])
        ids = (randn(f"{case}/ids", len(real), length).abs() * 1e4).long() % (vocab - 3) + 3
        ids = ids * mask
        for row, count in enumerate(real):
            ids[row, count - 1] = 1
        output = text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        file = f"text_encoder/{case}.safetensors"
        save_tensors(root / file, {"input_ids": ids, "attention_mask": mask, "last_hidden_state": output})
        entries.append({"name": case, "model": name, "file": file, "real_tokens": real})
    return entries


def scheduler_cases(root):
    """One file per scheduler and shift; for each N the tables and every intermediate sample.

    Keys `n{N}/timesteps [N]`, `n{N}/sigmas [N+1]`, `n{N}/samples [N,1,8]`; the
    model outputs `n{N}/model_outputs [N,1,8]` do not depend on the sample.
    """
    entries = []
    for kind in ("unipc", "euler"):
        for shift in SHIFTS:
            tensors = {"initial_sample": randn("scheduler/initial", 1, 8)}
            for steps in STEPS:
                solver = make_scheduler(kind, shift)
                solver.set_timesteps(steps)
                solver.set_begin_index(0)
                outputs = randn(f"scheduler/outputs/{steps}", steps, 1, 8)
                sample = tensors["initial_sample"]
                samples = []
                for timestep, output in zip(solver.timesteps, outputs, strict=True):
                    sample = solver.step(output, timestep, sample, return_dict=False)[0]
                    samples.append(sample)
                tensors[f"n{steps}/timesteps"] = solver.timesteps
                tensors[f"n{steps}/sigmas"] = solver.sigmas
                tensors[f"n{steps}/model_outputs"] = outputs
                tensors[f"n{steps}/samples"] = torch.stack(samples)
            case = f"{kind}-shift-{shift:g}"
            file = f"scheduler/{case}.safetensors"
            save_tensors(root / file, tensors)
            entries.append({"name": case, "scheduler": kind, "shift": shift, "steps": STEPS, "file": file})
    return entries
