#!/usr/bin/env python3
"""Make the parity fixtures in tests/fixtures with Python diffusers as the reference.

Usage: make_fixtures.py [--out DIR] [--only models parts prompts pipelines enhancer]

The same versions (requirements.txt) give the same files to the byte on the same
kind of CPU; another CPU may differ in the last bits of the computed outputs.
"""

import argparse
import os
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch  # noqa: E402

torch.set_num_threads(1)

from enhancer_cases import write_enhancers  # noqa: E402
from fixture_io import VERSIONS, save_json  # noqa: E402
from part_cases import (  # noqa: E402
    original_cases,
    scheduler_cases,
    text_encoder_cases,
    transformer_cases,
    vae_cases,
)
from pipeline_cases import pipeline_cases  # noqa: E402
from prompt_cases import prompt_cases  # noqa: E402
from tiny_models import MODELS, load_model, write_model, write_original  # noqa: E402

GROUPS = ["models", "parts", "prompts", "pipelines", "enhancer"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    options = parser.parse_args()
    root = options.out

    if "models" in options.only:
        for name in MODELS:
            write_model(root, name)
        write_original(root)
    if "enhancer" in options.only:
        write_enhancers(root)
    if options.only == ["enhancer"]:
        return
    pipelines = {name: load_model(root, name) for name in MODELS}

    if "parts" in options.only:
        parts = {"versions": VERSIONS, "transformer": [], "vae": [], "text_encoder": []}
        for name, pipeline in pipelines.items():
            parts["transformer"] += transformer_cases(
                root, name, pipeline.transformer, pipeline.transformer_2
            )
            parts["vae"] += vae_cases(root, name, pipeline.vae)
            parts["text_encoder"] += text_encoder_cases(root, name, pipeline.text_encoder)
        parts["transformer"] += original_cases(root)
        parts["scheduler"] = scheduler_cases(root)
        save_json(root / "cases.json", parts)
    if "prompts" in options.only:
        tokenizers = {name: pipeline.tokenizer for name, pipeline in pipelines.items()}
        save_json(root / "prompts.json", {"versions": VERSIONS, "cases": prompt_cases(tokenizers)})
    if "pipelines" in options.only:
        save_json(root / "pipelines.json", {"versions": VERSIONS, "cases": pipeline_cases(root, pipelines)})


if __name__ == "__main__":
    main()
