"""Streams of the public Self-Forcing code on tiny random weights, on a CPU.

The network is its `CausalWanModel`, the loop its `CausalInferencePipeline`, run
as they are but for what they assume of the machine: attention goes through
`scaled_dot_product_attention` instead of a CUDA kernel in bf16, and the
sizes of the caches are those of the tiny model. The text encoder and the VAE are
left out: given embeddings go in, latents come out.
"""

import importlib
import sys
import types

import safetensors.torch
import torch

from fixture_io import VERSIONS, randn, save_json, save_tensors

# As `pipelines/stream` of sora-diffusion draws its noise, modulo 2^64.
BLOCK_SEED_STEP = 0x9E3779B97F4A7C15
NOISE_SEED_STEP = 0xD1B54A32D192ED03
SEED = 11
CHANNELS, HEIGHT, WIDTH = 16, 4, 6
TEXT_LENGTH, TEXT_DIM = 7, 24
FOUR_STEPS = [1000, 750, 500, 250]

# name, blocks, num_frame_per_block, local_attn_size, sink_size, steps, independent_first_frame; in f32, but
# for those whose name ends in bf16
CASES = [
    ("frames", 9, 1, 5, 1, FOUR_STEPS, False),
    ("threes", 5, 3, 9, 3, FOUR_STEPS, False),
    ("uneven-window", 4, 3, 7, 2, [1000, 500], False),
    ("all-past", 4, 3, -1, 0, FOUR_STEPS, False),
    ("first-frame-alone", 4, 3, -1, 0, FOUR_STEPS, True),
    ("frames-bf16", 6, 1, 4, 1, FOUR_STEPS, False),
]


def sdpa(q, k, v, **_):
    """`[B, L, heads, head_dim]` each."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous()


def import_reference(checkout):
    """The modules of the checkout, without what only its command line needs."""
    sys.path.insert(0, str(checkout))
    for package in ("wan", "pipeline"):
        # Their __init__ files import the image encoder, the trainers and the like.
        module = types.ModuleType(package)
        module.__path__ = [str(checkout / package)]
        sys.modules[package] = module
    # Default arguments in there ask for the number of a GPU.
    torch.cuda.current_device = lambda: 0
    causal_model = importlib.import_module("wan.modules.causal_model")
    causal_model.attention = sdpa
    importlib.import_module("wan.modules.model").flash_attention = sdpa
    return (
        causal_model.CausalWanModel,
        importlib.import_module("utils.wan_wrapper").WanDiffusionWrapper,
        importlib.import_module("utils.scheduler").FlowMatchScheduler,
        importlib.import_module("pipeline.causal_inference").CausalInferencePipeline,
    )


def seeded(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed % 2**64))


def run(reference, weights, case, text):
    """The latents `[1, F, C, H, W]` of one stream."""
    model_class, wrapper_class, scheduler_class, pipeline_class = reference
    name, blocks, size, local, sink, steps, alone = case
    model = model_class(
        in_dim=CHANNELS,
        out_dim=CHANNELS,
        dim=42,
        ffn_dim=40,
        num_heads=3,
        num_layers=3,
        text_dim=TEXT_DIM,
        local_attn_size=local,
        sink_size=sink,
    ).eval()
    model.load_state_dict(weights)
    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    model.to(dtype)
    text = text.to(dtype)

    generator = wrapper_class.__new__(wrapper_class)
    torch.nn.Module.__init__(generator)
    generator.model = model
    generator.uniform_timestep = False
    generator.scheduler = scheduler_class(shift=5.0, sigma_min=0.0, extra_one_step=True)
    generator.scheduler.set_timesteps(1000, training=True)
    generator.seq_len = 32760
    generator.post_init()

    args = types.SimpleNamespace(
        denoising_step_list=steps,
        warp_denoising_step=True,
        num_frame_per_block=size,
        independent_first_frame=alone,
        context_noise=0,
    )
    vae = types.SimpleNamespace(decode_to_pixel=lambda latents, use_cache: latents)
    pipeline = pipeline_class(
        args, "cpu", generator=generator, text_encoder=lambda text_prompts: {"prompt_embeds": text}, vae=vae
    )
    tokens = HEIGHT // 2 * (WIDTH // 2)
    pipeline.num_transformer_blocks = 3
    pipeline.frame_seq_length = tokens
    frames = 21 if local == -1 else local

    def caches(batch_size, dtype, device):
        pipeline.kv_cache1 = [
            {
                "k": torch.zeros(batch_size, frames * tokens, 3, 14, dtype=dtype),
                "v": torch.zeros(batch_size, frames * tokens, 3, 14, dtype=dtype),
                "global_end_index": torch.tensor([0]),
                "local_end_index": torch.tensor([0]),
            }
            for _ in range(3)
        ]

    pipeline._initialize_kv_cache = caches

    sizes = [1 if alone and block == 0 else size for block in range(blocks)]
    starts = [SEED + block * BLOCK_SEED_STEP for block in range(blocks)]
    noise = [seeded(seed, 1, n, CHANNELS, HEIGHT, WIDTH).to(dtype) for seed, n in zip(starts, sizes, strict=True)]
    fresh = [
        seeded(seed + step * NOISE_SEED_STEP, n, CHANNELS, HEIGHT, WIDTH).to(dtype)
        for seed, n in zip(starts, sizes, strict=True)
        for step in range(1, len(steps))
    ]
    original = torch.randn_like

    def randn_like(like):
        value = fresh.pop(0)
        assert value.shape == like.shape
        return value

    torch.randn_like = randn_like
    try:
        _, latents = pipeline.inference(torch.cat(noise, 1), ["given"], return_latents=True)
    finally:
        torch.randn_like = original
    assert not fresh, name
    return latents.float()


def write_causal(root, checkout, commit):
    """`text [1,L,D]` → per case `latents [1,F,C,H,W]`, and the step table."""
    reference = import_reference(checkout.resolve())
    prefix = "model.diffusion_model."
    stored = safetensors.torch.load_file(root / "tiny-original" / "other.safetensors")
    weights = {key.removeprefix(prefix): value for key, value in stored.items()}
    text = randn("causal/text", 1, TEXT_LENGTH, TEXT_DIM)
    padded = torch.cat([text, torch.zeros(1, 512 - TEXT_LENGTH, TEXT_DIM)], 1)
    tensors = {"text": text}
    cases = []
    for case in CASES:
        name, blocks, size, local, sink, steps, alone = case
        tensors[name] = run(reference, weights, case, padded)
        cases.append(
            {
                "name": name,
                "blocks": blocks,
                "seed": SEED,
                "causal": {
                    "num_frame_per_block": size,
                    "independent_first_frame": alone,
                    "denoising_step_list": steps,
                    "timestep_shift": 5.0,
                    "local_attn_size": local,
                    "sink_size": sink,
                    "rotation": "absolute",
                },
            }
        )
    # By this a reader knows whether its CPU sums as this one does.
    sums = torch.nn.functional.linear(seeded(31, 64, 42).bfloat16(), seeded(32, 42, 42).bfloat16())
    tensors["sums-bf16"] = sums.float()
    scheduler = reference[2](shift=5.0, sigma_min=0.0, extra_one_step=True)
    scheduler.set_timesteps(1000, training=True)
    tensors["sigmas"] = scheduler.sigmas
    tensors["timesteps"] = scheduler.timesteps
    save_tensors(root / "causal" / "streams.safetensors", tensors)
    save_json(
        root / "causal" / "cases.json",
        {"versions": {**VERSIONS, "Self-Forcing": commit}, "cases": cases},
    )
