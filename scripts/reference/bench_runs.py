"""One run of either side: wall time, time of a denoising step, peak memory.

Both are measured from outside and alike. Wall time runs from the start of the
process to the last byte of the frames on disk (the modification time of the
output), so the time a process takes to end counts for neither. Peak memory is
the largest resident set that the kernel reports for the process (wait4).
"""

import json
import os
import re
import shlex
import statistics
import subprocess
import time

STEP = re.compile(rb"step\s+(\d+)\s*(?:of|/)\s*(\d+)", re.IGNORECASE)


def run_theirs(reference, python, row, out, threads):
    stats = out.with_suffix(".json")
    command = [python, str(reference / "generate.py"), "--model", str(row["model"])]
    command += ["--prompt", row["prompt"], "--seed", str(row["seed"])]
    command += ["--width", str(row["width"]), "--height", str(row["height"])]
    command += ["--num-frames", str(row["num_frames"]), "--steps", str(row["num_inference_steps"])]
    command += ["--guidance-scale", str(row["guidance_scale"])]
    command += ["--max-sequence-length", str(row["max_sequence_length"])]
    if row["negative_prompt"]:
        command += ["--negative-prompt", row["negative_prompt"]]
    if threads:
        command += ["--threads", str(threads)]
    command += ["--out", str(out), "--stats", str(stats)]
    result, _ = timed(command, out)
    steps = json.loads(stats.read_text())["steps_s"]
    return {**result, "step_s": statistics.median(steps)}


def run_ours(root, row, out, threads):
    """Steps are timed by the progress messages that gst-launch-1.0 prints."""
    properties = {
        "model-path": row["model"],
        "prompt": row["prompt"],
        "seed": row["seed"],
        "num-frames": row["num_frames"],
        "num-inference-steps": row["num_inference_steps"],
        "guidance-scale": row["guidance_scale"],
        "device": "cpu",
        "dtype": "f32",
    }
    if row["negative_prompt"]:
        properties["negative-prompt"] = row["negative_prompt"]
    caps = f"video/x-raw,format=RGB,width={row['width']},height={row['height']}"
    launch = ["gst-launch-1.0", "soragen"]
    launch += [f'{name}="{value}"' for name, value in properties.items()]
    launch += ["!", caps, "!", "filesink", f'location="{out}"']
    # exec keeps the process id, so that wait4 reports on gst-launch itself.
    shell = f". {shlex.quote(str(root / 'target/sora/env'))} && exec {shlex.join(launch)}"
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    result, lines = timed(["bash", "-c", shell], out, environment)
    marks = {}
    for moment, line in lines:
        match = STEP.search(line)
        if match:
            marks.setdefault(int(match[1]), moment)
    moments = [marks[step] for step in sorted(marks)]
    steps = [end - begin for begin, end in zip(moments, moments[1:])]
    return {**result, "step_s": statistics.median(steps) if steps else None}


def timed(command, out, environment=None):
    """Run `command`, which writes `out`. Returns its figures and its timed output lines."""
    out.unlink(missing_ok=True)
    began = time.time()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, bufsize=0
    )
    lines = []
    rest = b""
    try:
        while chunk := os.read(process.stdout.fileno(), 65536):
            moment = time.time()
            *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            lines += [(moment, line) for line in whole]
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0 or not out.exists() or out.stat().st_size == 0:
        text = b"\n".join([line for _, line in lines] + [rest]).decode(errors="replace")
        raise SystemExit(f"failed ({process.returncode}): {shlex.join(command)}\n{text}")
    return {
        "wall_s": out.stat().st_mtime_ns / 1e9 - began,
        # ru_maxrss is in KiB on Linux.
        "peak_bytes": usage.ru_maxrss * 1024,
    }, lines
