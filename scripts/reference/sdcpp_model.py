#!/usr/bin/env python3
"""Write a random-weight Wan2.1-T2V-1.3B that stable-diffusion.cpp loads too. Usage: sdcpp_model.py DIR

A model directory in diffusers layout whose very files both read: `wan.safetensors` is the transformer under the original
names (`transformer-file` here, --diffusion-model there), vae/ and text_encoder/ are read under diffusers' names by both.
The transformer and the VAE are of the published sizes, since stable-diffusion.cpp has these as constants. Of the text
encoder it takes the sizes from the file, but for the width, which is the transformer's `text_dim`, and the 64 of a head:
one thin layer does. Its embeddings are one vector repeated, so that nothing depends on a vocabulary beyond the number of
tokens. Weights are rounded to bf16, which f32 holds exactly and f16 nearly all of them.
"""

import pathlib
import sys

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from fixture_io import save_tensors
from schedulers import make_scheduler
from tiny_models import original_key, randomize
from tiny_tokenizer import tiny_tokenizer

# With a shift of 1 the sigmas of diffusers' Euler sampler are those of stable-diffusion.cpp's discrete schedule.
SHIFT = 1.0
TRANSFORMER = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096}
TEXT = {"d_model": 4096, "d_kv": 64, "num_heads": 1, "d_ff": 64, "num_layers": 1, "vocab_size": 512}


def rounded(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.bfloat16())
    return module


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])

    vae = randomize("sdcpp/vae", AutoencoderKLWan())
    text = randomize("sdcpp/text", UMT5EncoderModel(UMT5Config(**TEXT)))
    with torch.no_grad():
        # Few pixels clip at [-1, 1].
        vae.decoder.conv_out.weight.mul_(0.5)
        text.shared.weight.copy_(text.shared.weight[:1].clone().expand_as(text.shared.weight))
    # Of one layer, for its config alone: the weights of all would be written a second time.
    stand_in = WanTransformer3DModel(**{**TRANSFORMER, "num_layers": 1})
    pipeline = WanPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=rounded(text),
        vae=rounded(vae),
        scheduler=make_scheduler("euler", SHIFT),
        transformer=stand_in,
    )
    pipeline.save_pretrained(directory)

    transformer = WanTransformer3DModel(**TRANSFORMER).to(torch.bfloat16)
    randomize("sdcpp/transformer", transformer)
    weights = {original_key(key): value for key, value in transformer.state_dict().items()}
    save_tensors(directory / "wan.safetensors", weights)
    stored = directory / "transformer" / "diffusion_pytorch_model.safetensors"
    stored.unlink()
    stored.symlink_to("../wan.safetensors")
    transformer.save_config(directory / "transformer")


if __name__ == "__main__":
    main()
