#!/usr/bin/env python3
"""Write a random-weight model of medium size, for the benchmark. Usage: bench_model.py DIR

dim 512 in 8 layers (34 M parameters), a Wan 2.1 VAE of base width 32, a text
encoder of 4 layers: large enough that arithmetic, not start-up, takes the time.
"""

import sys

from tiny_models import build_pipeline
from tiny_tokenizer import tiny_tokenizer

SPEC = {
    "transformer": {"num_attention_heads": 8, "attention_head_dim": 64, "ffn_dim": 2048, "num_layers": 8},
    "channels": 16,
    "text": {"d_model": 256, "d_kv": 32, "num_heads": 8, "d_ff": 640, "num_layers": 4},
    "vae": {"base_dim": 32, "num_res_blocks": 2},
    "scheduler": ("unipc", 3.0),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pipeline = build_pipeline("bench", SPEC, tiny_tokenizer())
    pipeline.save_pretrained(sys.argv[1])


if __name__ == "__main__":
    main()
