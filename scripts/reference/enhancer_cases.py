"""The prompt enhancer's network: tiny random UMT5ForConditionalGeneration, their logits and what they write.

In `prompt_enhancer/cases.json`: `input_ids` and `attention_mask` ([B,L], i64, `prompt_tokens` counts the ones
of each row), `decoder_input_ids [B,M]` → `logits [B,M,V]`; `greedy [1,N]`: what greedy search writes for the
first prompt alone, the start token first, at most 40 tokens after it.
"""

import shutil

import torch
from transformers import UMT5Config, UMT5ForConditionalGeneration

from fixture_io import VERSIONS, randn, save_json, save_tensors, stamp_versions
from tiny_models import randomize

# Two networks whose sizes differ from each other and from their neighbours; the second has fewer decoder
# blocks than encoder blocks, another activation, and position buckets that both ends of a text reach.
NETWORKS = {
    "gated": {"d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3},
    "plain": {
        "d_model": 20,
        "d_kv": 8,
        "num_heads": 3,
        "d_ff": 36,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "relative_attention_num_buckets": 12,
        "relative_attention_max_distance": 19,
        "feed_forward_proj": "relu",
    },
}
VOCABULARY = 150

# name, tokens of the prompts, tokens written
SHAPES = [("one", [1], 1), ("batch", [17, 4, 9], 23), ("long", [60], 90)]


def ids_for(name, *shape):
    return (randn(name, *shape).abs() * 1e4).long() % (VOCABULARY - 3) + 3


@torch.no_grad()
def write_enhancers(root):
    """Writes `prompt_enhancer/` and returns nothing; everything there is made anew."""
    folder = root / "prompt_enhancer"
    shutil.rmtree(folder, ignore_errors=True)
    cases = []
    for name, sizes in NETWORKS.items():
        model = UMT5ForConditionalGeneration(UMT5Config(vocab_size=VOCABULARY, **sizes))
        randomize(f"enhancer/{name}", model)
        # Sharper scores than a random table gives: a greedy choice must not hang on the last bit.
        model.shared.weight.mul_(2.0)
        model.save_pretrained(folder / name)
        stamp_versions(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        for shape_name, lengths, written in SHAPES:
            case = f"{name}-{shape_name}"
            mask = torch.tensor([[1] * n + [0] * (max(lengths) - n) for n in lengths])
            inputs = {
                "input_ids": ids_for(f"enhancer/{case}/ids", *mask.shape) * mask,
                "attention_mask": mask,
                "decoder_input_ids": ids_for(f"enhancer/{case}/written", len(lengths), written),
            }
            inputs["decoder_input_ids"][:, 0] = 0
            logits = model(**inputs, use_cache=False).logits
            # Greedy search of the first prompt alone: the start token, then 40 tokens or up to the end.
            greedy = model.generate(
                input_ids=inputs["input_ids"][:1, : lengths[0]],
                do_sample=False,
                num_beams=1,
                max_new_tokens=40,
            )
            file = f"prompt_enhancer/{case}.safetensors"
            save_tensors(root / file, {**inputs, "logits": logits, "greedy": greedy})
            cases.append({"name": case, "model": name, "file": file, "prompt_tokens": lengths})
    save_json(folder / "cases.json", {"versions": VERSIONS, "cases": cases})
