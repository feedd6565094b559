"""The conversion behind scripts/convert-checkpoint."""

import argparse
import json
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file

# The metadata key under which sora-model looks for how a transformer makes video.
METADATA_KEY = "sora.causal"

# Where checkpoints of the family keep the network, best first: averaged weights make better video.
PLACES = ("generator_ema", "generator", "model", "state_dict")
# Wrappers that trainers put around the network, outermost first or repeated.
PREFIXES = ("model.", "diffusion_model.", "module.")
FSDP = "_fsdp_wrapped_module."
# Parts of a training that no video needs.
TRAINING_ONLY = ("_cls_pred_branch.", "_register_tokens.", "_gan_ca_blocks.")

FOUR_STEPS = [1000, 750, 500, 250]
# As published: what a block is made by, and a sink of one block.
RECIPES = {
    "self-forcing": {"num_frame_per_block": 3, "denoising_step_list": FOUR_STEPS},
    "framewise": {"num_frame_per_block": 1, "denoising_step_list": FOUR_STEPS},
    # Causal-Forcing++: its first frame takes four steps.
    "framewise-2step": {
        "num_frame_per_block": 1,
        "denoising_step_list": [1000, 500],
        "denoising_step_list_first_chunk": FOUR_STEPS,
    },
    "framewise-1step": {
        "num_frame_per_block": 1,
        "denoising_step_list": [1000],
        "denoising_step_list_first_chunk": FOUR_STEPS,
    },
}

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


class Refused(Exception):
    """What is wrong with a checkpoint, in words for people."""


def load(path):
    """Everything in the file, without running what it says."""
    if not path.is_file():
        raise Refused("it is not a file")
    try:
        # Files from before PyTorch 1.6 are no archives, and cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises whatever its parts raise, and advises to run the file
        raise Refused("it is no PyTorch checkpoint, or holds Python objects besides tensors, which are not run") from error


def tensors_of(value):
    return isinstance(value, dict) and value and all(isinstance(v, torch.Tensor) for v in value.values())


def network(checkpoint, place):
    """The network's tensors, and the place where they were."""
    if tensors_of(checkpoint) and place is None:
        return checkpoint, "the top level"
    if not isinstance(checkpoint, dict):
        raise Refused(f"it holds a {type(checkpoint).__name__}, not a dictionary of tensors")
    keys = ", ".join(sorted(map(str, checkpoint))) or "nothing"
    for candidate in [place] if place else PLACES:
        if candidate in checkpoint:
            if not tensors_of(checkpoint[candidate]):
                raise Refused(f"its `{candidate}` is not a dictionary of tensors")
            return checkpoint[candidate], f"`{candidate}`"
    wanted = f"`{place}`" if place else "one of " + ", ".join(f"`{name}`" for name in PLACES)
    raise Refused(f"it has no {wanted}; it has: {keys[:300]}")


def plain_name(name):
    name = name.replace(FSDP, "")
    while any(name.startswith(prefix) for prefix in PREFIXES):
        name = name.split(".", 1)[1]
    return name


def plain_names(tensors):
    """The tensors under the names of the original Wan code, without wrappers."""
    plain, left_out = {}, Counter()
    for name, tensor in tensors.items():
        short = plain_name(name)
        if short.startswith(TRAINING_ONLY):
            left_out[short.split(".", 1)[0]] += 1
            continue
        if "lora_" in short:
            raise Refused(f"`{name}` belongs to a LoRA: merge it into its base model first")
        if short in plain:
            raise Refused(f"two of its tensors come to the name `{short}`, one is `{name}`")
        plain[short] = tensor
    return plain, left_out


def shape_of(tensors, name, dimensions):
    if name not in tensors:
        raise Refused(f"`{name}` is missing: not a Wan transformer, nor a TAEHV")
    shape = list(tensors[name].shape)
    if len(shape) != dimensions:
        raise Refused(f"`{name}` has shape {shape}, {dimensions} sizes are needed")
    return shape


def expected_transformer(tensors):
    """Name → shape of every tensor of a Wan transformer, from the sizes of a few."""
    dim, channels, *patch = shape_of(tensors, "patch_embedding.weight", 5)
    text = shape_of(tensors, "text_embedding.0.weight", 2)[1]
    frequencies = shape_of(tensors, "time_embedding.0.weight", 2)[1]
    ffn = shape_of(tensors, "blocks.0.ffn.0.weight", 2)[0]
    numbers = [int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))]
    layers = max(numbers) + 1
    out = shape_of(tensors, "head.head.weight", 2)[0]
    if any(name.startswith("img_emb.") or ".k_img." in name for name in tensors):
        raise Refused("it is an image-to-video transformer (`img_emb`), which is not supported")
    expected = {"patch_embedding.weight": [dim, channels, *patch], "patch_embedding.bias": [dim]}

    def linear(name, inputs, outputs):
        expected[f"{name}.weight"] = [outputs, inputs]
        expected[f"{name}.bias"] = [outputs]

    linear("text_embedding.0", text, dim)
    linear("text_embedding.2", dim, dim)
    linear("time_embedding.0", frequencies, dim)
    linear("time_embedding.2", dim, dim)
    linear("time_projection.1", dim, 6 * dim)
    linear("head.head", dim, out)
    expected["head.modulation"] = [1, 2, dim]
    for i in range(layers):
        block = f"blocks.{i}"
        for attention in ("self_attn", "cross_attn"):
            for projection in "qkvo":
                linear(f"{block}.{attention}.{projection}", dim, dim)
            expected[f"{block}.{attention}.norm_q.weight"] = [dim]
            expected[f"{block}.{attention}.norm_k.weight"] = [dim]
        expected[f"{block}.norm3.weight"] = [dim]
        expected[f"{block}.norm3.bias"] = [dim]
        linear(f"{block}.ffn.0", dim, ffn)
        linear(f"{block}.ffn.2", ffn, dim)
        expected[f"{block}.modulation"] = [1, 6, dim]
    described = f"a Wan transformer of {layers} layers of {dim}, {channels} latent channels"
    return expected, described


def check(tensors, expected):
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise Refused(f"{len(missing)} of its tensors are missing, first `{missing[0]}`")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise Refused(f"{len(unknown)} of its tensors belong to no Wan transformer, first `{unknown[0]}`")
    for name, shape in expected.items():
        if list(tensors[name].shape) != shape:
            raise Refused(f"`{name}` has shape {list(tensors[name].shape)}, {shape} is needed")


def check_numbers(tensors):
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating_point:
            raise Refused(f"`{name}` is of {tensor.dtype}, floating point is needed")
        if not torch.isfinite(tensor).all():
            raise Refused(f"`{name}` holds numbers that are not finite")


def is_taehv(tensors):
    return "encoder.0.weight" in tensors and any(name.startswith("decoder.") for name in tensors)


def causal(options):
    """How the engine is to use the transformer; the names are those of `CausalConfig` in sora-model."""
    recipe = RECIPES[options.recipe]
    size = recipe["num_frame_per_block"] if options.num_frame_per_block is None else options.num_frame_per_block
    first = options.denoising_step_list_first_chunk
    if first is None:
        # A list of one's own is meant for every block.
        first = recipe.get("denoising_step_list_first_chunk", []) if options.denoising_step_list is None else []
    config = {
        "num_frame_per_block": size,
        "independent_first_frame": options.independent_first_frame,
        "denoising_step_list": options.denoising_step_list or recipe["denoising_step_list"],
        "denoising_step_list_first_chunk": first,
        "warp_denoising_step": not options.no_warp,
        "timestep_shift": options.timestep_shift,
        "context_noise": options.context_noise,
        "local_attn_size": options.local_attn_size,
        "sink_size": size if options.sink_size is None else options.sink_size,
        "rotation": options.rotation,
        "numerics": options.numerics,
    }
    for key in ("denoising_step_list", "denoising_step_list_first_chunk"):
        steps = config[key]
        if steps != sorted(set(steps), reverse=True) or not all(1 <= step <= 1000 for step in steps):
            name = key.replace("_", "-")
            raise Refused(f"--{name} is {steps}; it must fall from at most 1000 to at least 1")
    if config["num_frame_per_block"] < 1:
        raise Refused(f"--num-frame-per-block is {config['num_frame_per_block']}; it must be at least 1")
    least = config["num_frame_per_block"] + config["sink_size"]
    if config["local_attn_size"] != -1 and config["local_attn_size"] < least:
        raise Refused(
            f"--local-attn-size is {config['local_attn_size']}; it must be -1, or at least {least}: a block and the sink"
        )
    return config


def convert(options):
    """Writes the output; returns lines that say what was done."""
    tensors, place = network(load(options.checkpoint), options.place)
    tensors, left_out = plain_names(tensors)
    metadata = {"format": "pt"}
    dtype = options.dtype
    if is_taehv(tensors):
        described = f"a TAEHV of {tensors['encoder.0.weight'].shape[0]} channels"
        dtype = dtype or "f16"
    else:
        expected, described = expected_transformer(tensors)
        check(tensors, expected)
        metadata[METADATA_KEY] = json.dumps(causal(options))
        dtype = dtype or "bf16"
    check_numbers(tensors)
    tensors = {name: tensor.to(DTYPES[dtype]).contiguous() for name, tensor in tensors.items()}
    # Nobody finds half a file, and everybody may read a whole one.
    partial = options.output.with_name(options.output.name + ".partial")
    try:
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(0o644)
        partial.replace(options.output)
    finally:
        partial.unlink(missing_ok=True)
    lines = [f"{options.output}: {described}, from {place}, in {dtype}"]
    if METADATA_KEY in metadata:
        lines.append(f"{METADATA_KEY}: {metadata[METADATA_KEY]}")
    lines += [f"left out: {count} tensors of `{name}`" for name, count in sorted(left_out.items())]
    return lines


def steps(text):
    return [int(step) for step in text.split(",")]


def parser():
    parser = argparse.ArgumentParser(
        prog="convert-checkpoint",
        description="Make a PyTorch checkpoint a safetensors file that the elements load.",
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--place", help=f"key of the network in the checkpoint; default: the first of {', '.join(PLACES)}")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bf16, for a TAEHV f16")
    how = parser.add_argument_group("how the transformer makes video (kept in the file)")
    how.add_argument("--recipe", choices=RECIPES, default="self-forcing", help="what the options below default to")
    how.add_argument("--num-frame-per-block", type=int, metavar="N", help="latent frames made at once")
    how.add_argument("--independent-first-frame", action="store_true", help="the first block has one latent frame")
    how.add_argument("--denoising-step-list", type=steps, metavar="T,T,...", help="1000,750,500,250")
    how.add_argument("--denoising-step-list-first-chunk", type=steps, metavar="T,T,...", help="for a block without a past")
    how.add_argument("--no-warp", action="store_true", help="the list names timesteps, not rows of the shifted table")
    how.add_argument("--timestep-shift", type=float, default=5.0, metavar="S")
    how.add_argument("--context-noise", type=float, default=0.0, metavar="T")
    how.add_argument("--local-attn-size", type=int, default=-1, metavar="N", help="latent frames that attention reaches over; -1: a clip's")
    how.add_argument("--sink-size", type=int, metavar="N", help="first latent frames that are never forgotten")
    how.add_argument("--rotation", choices=("relative", "absolute"), default="relative", help="absolute: as the Self-Forcing code, ends after 1024 latent frames")
    how.add_argument("--numerics", choices=("self-forcing", "diffusers"), default="self-forcing", help="roundings in bf16: as the network was trained, or as diffusers")
    return parser


def main():
    options = parser().parse_args()
    try:
        print("\n".join(convert(options)))
    except Refused as error:
        sys.exit(f"error: {options.checkpoint} cannot be converted: {error}")


if __name__ == "__main__":
    main()
