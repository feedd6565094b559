"""Sizes of networks: of a directory, of a made one, of the published ones (wan.md of the design; diffusers' configs)."""

import json

WAN_VAE_21 = {
    "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [],
    "temperal_downsample": [False, True, True], "in_channels": 3, "out_channels": 3,
    "scale_factor_temporal": 4, "scale_factor_spatial": 8,
}
WAN_VAE_22 = {
    **WAN_VAE_21, "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2,
    "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}
UMT5_XXL = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}


def transformer(heads, ffn, layers, channels=16, head_dim=128, text=4096):
    return {
        "patch_size": [1, 2, 2], "num_attention_heads": heads, "attention_head_dim": head_dim, "ffn_dim": ffn,
        "num_layers": layers, "in_channels": channels, "out_channels": channels, "text_dim": text, "freq_dim": 256,
        "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
    }


PUBLISHED = {
    "Wan2.1-T2V-1.3B": {"transformer": transformer(12, 8960, 30), "vae": WAN_VAE_21},
    "Wan2.2-TI2V-5B": {"transformer": transformer(24, 14336, 30, channels=48), "vae": WAN_VAE_22},
    "Wan2.1-T2V-14B": {"transformer": transformer(40, 13824, 40), "vae": WAN_VAE_21},
}
# 151 M parameters of the transformer.
MADE = {
    "transformer": transformer(12, 3072, 16, head_dim=64, text=512),
    "vae": {**WAN_VAE_21, "base_dim": 32},
    "text_encoder": {**UMT5_XXL, "vocab_size": 4096, "d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 8},
}


def of_directory(path):
    """The configs of a diffusers directory."""
    def read(part):
        values = json.loads((path / part / "config.json").read_text())
        return {key: value for key, value in values.items() if not key.startswith("_")}

    text = read("text_encoder")
    kept = {key: text[key] for key in UMT5_XXL if key in text}
    return {"transformer": read("transformer"), "vae": read("vae"), "text_encoder": kept}


def request(model, **changes):
    """A request to both programs that measure parts."""
    base = {
        "text_encoder": UMT5_XXL, "device": "cpu", "dtype": "f32", "vae_dtype": "f32", "prompt_tokens": 16,
        "block": 1, "window": 9, "steps": 4, "repeats": 5,
    }
    return {**base, **model, **changes}
