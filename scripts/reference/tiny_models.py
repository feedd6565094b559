"""The tiny random-weight model directories, in diffusers layout.

Every size differs from the real ones and from its neighbours (heads, head_dim,
text_dim, z_dim, base dims), so a reader that mixes two of them up gets a wrong
shape or a wrong number, never the right picture.
"""

import math
import shutil

import safetensors.torch
import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from fixture_io import generator, save_tensors, stamp_versions
from schedulers import make_scheduler
from tiny_tokenizer import tiny_tokenizer, write_umt5_tokenizer

MODELS = {
    "tiny-wan21": {
        # head_dim 14 splits unevenly over the axes of the rotary embedding: 6 + 4 + 4.
        "transformer": {"num_attention_heads": 3, "attention_head_dim": 14, "ffn_dim": 40},
        "channels": 16,
        "text": {"d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 40, "num_layers": 3},
        "vae": {"base_dim": 3, "num_res_blocks": 2},
        "scheduler": ("unipc", 3.0),
    },
    "tiny-wan22": {
        "transformer": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "ffn_dim": 52,
            "freq_dim": 64,
            "eps": 1e-5,
        },
        "channels": 6,
        "text": {
            "d_model": 20,
            "d_kv": 8,
            "num_heads": 3,
            "d_ff": 36,
            "num_layers": 4,
            "relative_attention_num_buckets": 16,
            "relative_attention_max_distance": 40,
        },
        "vae": {
            "base_dim": 3,
            "decoder_base_dim": 4,
            "num_res_blocks": 1,
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
            "scale_factor_spatial": 16,
        },
        "scheduler": ("euler", 5.0),
        "pipeline": {"expand_timesteps": True},
        "max_shard_size": "150KB",
    },
    "tiny-moe": {
        "transformer": {"num_attention_heads": 4, "attention_head_dim": 10, "ffn_dim": 44, "freq_dim": 32},
        "channels": 4,
        "text": {"d_model": 16, "d_kv": 4, "num_heads": 4, "d_ff": 24, "num_layers": 2},
        "vae": {"base_dim": 2, "num_res_blocks": 1},
        "scheduler": ("unipc", 12.0),
        "pipeline": {"boundary_ratio": 0.875},
        "umt5_tokenizer": True,
    },
}


def randomize(name, module):
    """Random numbers for every parameter of `module`, norms and biases included.

    Weights keep the variance of their input; norm weights lie around 1; biases
    and modulation tables are large enough that leaving one out shows.
    """
    with torch.no_grad():
        for key, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator(f"{name}/{key}"))
            leaf = key.rsplit(".", 2)[-2:]
            if key.endswith("scale_shift_table"):
                value = 0.4 * noise
            elif leaf[-1] == "gamma" or (leaf[-1] == "weight" and parameter.dim() == 1):
                value = 1.0 + 0.25 * noise
            elif leaf[-1] == "bias":
                value = 0.2 * noise
            elif "relative_attention_bias" in key:
                value = 0.7 * noise
            elif "shared" in key or "embed_tokens" in key:
                value = noise
            else:
                fan_in = math.prod(parameter.shape[1:])
                value = noise / math.sqrt(fan_in)
            parameter.copy_(value)
    return module.eval()


def random_transformer(name, spec):
    transformer = WanTransformer3DModel(
        in_channels=spec["channels"],
        out_channels=spec["channels"],
        text_dim=spec["text"]["d_model"],
        **{"num_layers": 3, "rope_max_seq_len": 64, **spec["transformer"]},
    )
    return randomize(name, transformer)


def random_vae(name, spec):
    """The autoencoder, its last layer scaled so that few pixels clip at [-1, 1]."""
    channels = spec["channels"]
    vae = AutoencoderKLWan(
        z_dim=channels,
        latents_mean=[
            round(v, 4) for v in (0.5 * torch.randn(channels, generator=generator(f"{name}/mean"))).tolist()
        ],
        latents_std=[
            round(v, 4) for v in (0.6 + torch.rand(channels, generator=generator(f"{name}/std"))).tolist()
        ],
        dim_mult=[1, 2, 4, 4],
        temperal_downsample=[False, True, True],
        **spec["vae"],
    )
    randomize(name, vae)
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.7)
        vae.decoder.conv_out.bias.mul_(0.5)
    return vae


def random_text_encoder(name, spec, vocab_size):
    config = UMT5Config(vocab_size=vocab_size, **spec["text"])
    return randomize(name, UMT5EncoderModel(config))


def build_pipeline(name, spec, tokenizer):
    second = random_transformer(f"{name}/transformer_2", spec) if name == "tiny-moe" else None
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=random_text_encoder(f"{name}/text_encoder", spec, len(tokenizer)),
        vae=random_vae(f"{name}/vae", spec),
        scheduler=make_scheduler(*spec["scheduler"]),
        transformer=random_transformer(f"{name}/transformer", spec),
        transformer_2=second,
        **spec.get("pipeline", {}),
    )


def write_model(root, name):
    """Save one directory and load it again, so that what follows uses the files."""
    directory = root / name
    shutil.rmtree(directory, ignore_errors=True)
    umt5 = MODELS[name].get("umt5_tokenizer", False)
    tokenizer = write_umt5_tokenizer(directory / "tokenizer") if umt5 else tiny_tokenizer()
    pipeline = build_pipeline(name, MODELS[name], tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    if name == "tiny-wan22":
        # A directory saved after use carries the padding and truncation of the
        # last call in tokenizer.json; a reader must not take them for its own.
        pipeline.tokenizer("short", padding="max_length", max_length=16, truncation=True)
    pipeline.save_pretrained(directory)
    if umt5:
        # save_pretrained wrote what T5Tokenizer made of the file: put the file back.
        shutil.rmtree(directory / "tokenizer")
        write_umt5_tokenizer(directory / "tokenizer")
        # The class name in the official directories, an alias of T5Tokenizer.
        index = directory / "model_index.json"
        index.write_text(index.read_text().replace('"T5Tokenizer"', '"T5TokenizerFast"'))
    shard = MODELS[name].get("max_shard_size")
    if shard:
        shutil.rmtree(directory / "transformer")
        pipeline.transformer.save_pretrained(directory / "transformer", max_shard_size=shard)
    stamp_versions(directory)
    return load_model(root, name)


def load_model(root, name):
    pipeline = WanPipeline.from_pretrained(root / name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# Longest names first where one is a prefix of another.
ORIGINAL_NAMES = [
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
    (".norm2.", ".norm3."),
    ("proj_out.", "head.head."),
]


def original_key(key):
    """The name that the Wan authors' own checkpoints give to a diffusers key."""
    if key == "scale_shift_table":
        return "head.modulation"
    key = key.replace("scale_shift_table", "modulation")
    for diffusers_name, original_name in ORIGINAL_NAMES:
        key = key.replace(diffusers_name, original_name)
    return key


def write_original(root):
    """Two single-file transformers under the original key names.

    `same.safetensors` holds the weights of tiny-wan21; `other.safetensors` holds
    different ones under the prefix that some tools add, so that an override
    which silently does nothing gives the wrong frames.
    """
    directory = root / "tiny-original"
    state = safetensors.torch.load_file(
        root / "tiny-wan21" / "transformer" / "diffusion_pytorch_model.safetensors"
    )
    save_tensors(directory / "same.safetensors", {original_key(key): value for key, value in state.items()})
    other = other_transformer()
    save_tensors(
        directory / "other.safetensors",
        {f"model.diffusion_model.{original_key(key)}": value for key, value in other.state_dict().items()},
    )


def other_transformer():
    return random_transformer("tiny-original/other", MODELS["tiny-wan21"])
