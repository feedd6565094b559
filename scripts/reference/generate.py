#!/usr/bin/env python3
"""Run diffusers' WanPipeline on a model directory and write raw RGB24 frames.

The counterpart of `soragen ! video/x-raw,format=RGB ! filesink`: same directory,
prompt, seed and settings, same bytes up to rounding. Prints how long it took
from the start of the process to the last frame, each denoising step, and the
peak resident memory.
"""

import argparse
import json
import os
import resource
import time


def process_start():
    """When this process started, on CLOCK_BOOTTIME, in seconds."""
    with open("/proc/self/stat") as file:
        # The command name may hold spaces; what follows its closing bracket may not.
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def since_start():
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process_start()


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="model directory in diffusers layout")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative-prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--num-frames", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--scheduler", choices=["unipc", "euler"], help="default: the directory's own")
    parser.add_argument("--max-sequence-length", type=int, default=512, help="tokens of a prompt")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N; the noise always comes from the CPU")
    parser.add_argument("--threads", type=int, help="default: what torch chooses")
    parser.add_argument("--out", help="raw RGB24 frames, one after the other")
    parser.add_argument("--stats", help="JSON with the times and the memory")
    return parser.parse_args()


def main():
    options = arguments()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    import torch
    from diffusers import WanPipeline

    from schedulers import replaced

    if options.threads:
        torch.set_num_threads(options.threads)
    imported = since_start()
    pipeline = WanPipeline.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    pipeline.to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = replaced(pipeline.scheduler, options.scheduler)
    loaded = since_start()

    # The first mark is the first forward of a transformer, the others end a step.
    marks = []

    def first_forward(_module, _inputs):
        if not marks:
            marks.append(time.perf_counter())

    def step_end(_pipeline, _step, _timestep, _values):
        marks.append(time.perf_counter())
        return {}

    for transformer in (pipeline.transformer, pipeline.transformer_2):
        if transformer is not None:
            transformer.register_forward_pre_hook(first_forward)

    frames = pipeline(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        width=options.width,
        height=options.height,
        num_frames=options.num_frames,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(options.seed),
        max_sequence_length=options.max_sequence_length,
        output_type="np",
        callback_on_step_end=step_end,
    ).frames[0]
    pixels = (frames * 255).round().astype("uint8")
    if options.out:
        with open(options.out, "wb") as file:
            file.write(pixels.tobytes())

    steps = [end - begin for begin, end in zip(marks, marks[1:])]
    stats = {
        "frames": list(pixels.shape),
        "import_s": imported,
        "load_s": loaded - imported,
        "wall_s": since_start(),
        "steps_s": steps,
        # ru_maxrss is in KiB on Linux.
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
    }
    if options.stats:
        with open(options.stats, "w") as file:
            json.dump(stats, file, indent=1)
    mean_step = sum(steps) / max(len(steps), 1)
    print(
        f"{stats['wall_s']:.2f} s from process start to the last frame "
        f"(import {imported:.2f}, load {stats['load_s']:.2f}, step {mean_step:.3f}), "
        f"peak memory {stats['peak_rss_bytes'] / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
