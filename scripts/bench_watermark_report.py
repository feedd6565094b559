"""The report of scripts/bench-watermark: what the results files hold, as Markdown."""

import json
import os
import platform
import statistics
import subprocess

import bench_watermark_clips as clips

ROWS = {
    1: ("everyday changes", {"720p": "100 %", "360p": "100 %", "256": "100 %", "128": "≥ 90 %"}),
    2: ("ordinary compression", {"720p": "100 %", "360p": "100 %", "256": "≥ 95 %", "128": "≥ 60 %"}),
    3: ("hard compression", {"720p": "100 %", "360p": "100 %", "256": "≥ 50 %", "128": "reported"}),
    4: ("the worst", {"720p": "≥ 75 %", "360p": "≥ 75 %", "256": "reported", "128": "reported"}),
    5: ("beside the table", {column: "≥ 90 %" for column in ("720p", "360p", "256", "128")}),
}

DETECTION_BARS = {"untouched": "< 1 s", "unmarked, full search": "< 5 s"}

PUBLISHED = """\
| attack | VideoSeal 0.0 (96 bits; OmniSealBench, SA-V, full videos): bit accuracy, TPR | TrustMark (100 raw bits, images) |
|---|---|---|
| crop to 71 % | .952, .54 | "crop only to about 20 % area loss" |
| crop to 55 % | .718, 0.00 | - |
| resize 0.55 | .989, .94 | - |
| rotation 10° (ours: 2° and 5°) | .938, .24 | - |
| brightness 0.5, 1.5 | .988, .80; .978, .83 | - |
| contrast 0.5, 1.5 | .988, .83; .983, .86 | - |
| H.264 at 256x256, CRF 23, 28, 32 | VideoSeal 1.0 (256 bits), an independent test on 4 clips: .95 to 1.0, .79 to .99, .62 to .88 on two real clips, about .55 on two synthetic ones | - |
| half the frames; scale 0.75 (256x256) | the same test: .97 to 1.0; .71 to 1.0 | - |
| noise | - | over .96 bit accuracy at 42 to 45 dB (Q) |
| PSNR | 53.7 dB for VideoSeal 1.0 on images (third-party index) | 43 to 45 dB (Q, B), 38 to 39 (C), 48 to 50 (P) |
| video | yes | "considered", none |
"""


def lines(path):
    if not path.exists():
        return []
    out = []
    for line in path.read_text().splitlines():
        try:
            out.append(json.loads(line))
        except ValueError:
            pass  # A line cut off by a stopped run.
    return out


def column_results(folder):
    """{attack: {clip: line}}"""
    results = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in lines(path):
            results.setdefault(line["attack"], {})[path.stem] = line
    return results


def cell(results, attack):
    found = [line for line in results.get(attack, {}).values() if "error" not in line]
    if not found:
        return "-"
    ok, known = sum(line["ok"] for line in found), sum(line["known"] or line["ok"] for line in found)
    extra = f" ({known})" if known != ok else ""
    return f"{ok}/{len(found)}{extra}"


def command_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (done.stdout + done.stderr).splitlines()[0]


def quality_table(columns, all_results):
    out = ["| | " + " | ".join(columns) + " | bar |", "|---|" + "---|" * (len(columns) + 1)]

    def row(name, key, form, bar, pick=statistics.median):
        cells = []
        for column in columns:
            values = [line[key] for line in all_results[column].get("quality", {}).values() if line[key] is not None]
            cells.append(form.format(pick(values)) + f" ({len(values)})" if values else "-")
        out.append(f"| {name} | " + " | ".join(cells) + f" | {bar} |")

    row("Y-PSNR, median, dB (clips)", "psnr", "{:.1f}", "≥ 45")
    row("Y-PSNR, least, dB", "psnr", "{:.1f}", "≥ 40", min)
    row("SSIM of luma, median", "ssim", "{:.4f}", "≥ 0.99")
    row("VMAF, median", "vmaf", "{:.1f}", "≥ 95")
    row("VMAF, least", "vmaf", "{:.1f}", "", min)
    row("bitrate at x264 CRF 23, median", "bitrate", "{:+.1%}", "≤ +12 %")
    row("that bitrate, median, kbit/s", "kbps", "{:.0f}", "")
    return out


def attack_table(columns, all_results, attacks):
    out = ["| attack | " + " | ".join(columns) + " | what it does |", "|---|" + "---|" * (len(columns) + 1)]
    row_before = None
    for row, name, what in attacks:
        if row != row_before:
            title, bars = ROWS[row]
            out.append(f"| **{title}: bar** | " + " | ".join(bars[column] for column in columns) + " | |")
            row_before = row
        cells = " | ".join(cell(all_results[column], name) for column in columns)
        what = what.replace("|", "\\|")
        out.append(f"| {name} | {cells} | `{what}` |")
    return out


def false_alarms(results):
    out = []
    path = results / "random-keys.json"
    if path.exists():
        data = json.loads(path.read_text())
        out += [
            f"Random keys: {data['keys']} keys on {len(data['clips'])} fixed unmarked clips, the statistic of a fixed "
            "code word ([plot](images/watermark-random-keys.svg)).",
            "",
            "| clip | keys | standard deviation of z | largest z |",
            "|---|---|---|---|",
        ]
        out += [f"| {c['clip']} | {c['keys']} | {c['deviation']:.4f} | {c['largest']:.2f} |" for c in data["clips"]]
        out += ["", "| t | share of keys with z > t | bound exp(-t²/2) |", "|---|---|---|"]
        out += [f"| {tail['t']:.0f} | {tail['share']:.2e} | {tail['bound']:.2e} |" for tail in data["tails"]]
        out.append("")
    found = lines(results / "unmarked.jsonl")
    if found:
        pairs, accepted = sum(line["keys"] for line in found), sum(line["accepted"] for line in found)
        decoded, seconds = sum(line["hypotheses"] for line in found), sum(line["seconds"] for line in found)
        kinds = sorted({line["clip"] for line in found})
        passes = [line for line in found if line["best_z"] > 0]
        best = max(line["best_z"] for line in found)
        out += [
            f"Unmarked clips through the whole blind detector: {pairs} clip-key pairs over {len(kinds)} clips "
            f"({', '.join(kinds)}; 64x64, 12 frames), {decoded} decodes, **{accepted} accepted**. "
            f"In {len(passes)} of {len(found)} blocks of 64 keys some decode passed its CRC; the largest z of those "
            f"was {best:.1f} (acceptance asks for about 13 and more). {seconds:.0f} s of wall time.",
            "",
        ]
    return out or ["Not measured yet.", ""]


def security(results):
    found = lines(results / "security.jsonl")
    if not found:
        return ["Not measured yet.", ""]
    out = ["| what | Y-PSNR to the unmarked victim, dB | the id is accepted | z |", "|---|---|---|---|"]
    for line in found:
        verdict = ("yes" if line["accepted"] == 1 else f"{line['accepted']} ids") if line["accepted"] else "no"
        if line["known"] and not line["accepted"]:
            verdict = "only where it is claimed"
        if line["conflict"]:
            verdict += ", conflict reported"
        row, z = line["row"].replace("|", " "), max(line["z"], line["known_z"] or 0)
        out.append(f"| {row} | {line['psnr']:.1f} | {verdict} | {z:.0f} |")
    return [*out, ""]


def grid(corner, found, row, column, show):
    """A table of lines: one row for each value of `row`, one column for each of `column`."""
    columns = list(dict.fromkeys(line[column] for line in found))
    out = [f"| {corner} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(line[row] for line in found):
        cells = {line[column]: show(line) for line in found if line[row] == name}
        out.append(f"| {name} | " + " | ".join(cells.get(column, "-") for column in columns) + " |")
    return out


def speed(results):
    found = lines(results / "speed.jsonl")
    if not found:
        return ["Not measured yet.", ""]
    out = [
        f"- embedding {line['embed']}: {line['mean_ms']:.2f} ms of processor time a frame, one thread"
        for line in found
        if "embed" in line
    ]
    if compared := [line for line in found if "compared" in line]:
        out += [
            "",
            "Embedding in other formats, by processor time relative to I420 of the same size, marked in turns with it:",
            "",
            *grid("format", compared, "format", "compared", lambda line: f"{line['ratio']:.2f}"),
        ]
    if detected := [line for line in found if "detect" in line]:
        times = "{seconds:.2f} s ({processor:.2f} s)"
        head, rule, *rows = grid("frames/s", detected, "rate", "detect", lambda line: times.format(**line))
        bars = " | ".join(DETECTION_BARS[kind] for kind in dict.fromkeys(line["detect"] for line in detected))
        out += [
            "",
            f"Detection in 4 s of 720p, a panned photograph, {detected[0]['threads']} threads: wall time, and in brackets",
            "the processor time of all threads, of which two free cores take half at best:",
            "",
            *(head, rule, f"| **bar** | {bars} |", *rows),
        ]
    return [*out, ""]


def write(out, work, tool, columns):
    results = work / "results"
    all_results = {column: column_results(results / column) for column in columns}
    listed = subprocess.run([tool, "list"], capture_output=True, text=True, check=True).stdout
    attacks = [line.split("\t") for line in listed.splitlines()]
    attacks = [(int(row), name, what) for row, name, what in attacks]
    wrong = sum(line.get("wrong", False) for c in all_results.values() for a in c.values() for line in a.values())
    runs = sum(len(a) for c in all_results.values() for name, a in c.items() if name != "quality")
    photos, worlds = ", ".join(clips.PHOTOS_REPORTED), ", ".join(map(str, clips.WORLDS_REPORTED))
    prompts = ", ".join(f'"{text}"' for text in clips.PROMPTS_REPORTED.values())
    cpus = len(os.sched_getaffinity(0))
    text = [
        "# The watermark under attack",
        "",
        "Written by `scripts/bench-watermark` and `scripts/bench-watermark --null`; a dash is a cell that has not been",
        "run yet. A cell counts clips whose 96 bits came back exactly at log10 p ≤ -6, blind, full search, default",
        "strength; in brackets, where it is more, clips verified with a claimed id at log10 p ≤ -9.",
        "",
        f"{runs} attack runs; a wrong payload was accepted in {wrong}.",
        "",
        *([(work / "note.md").read_text()] if (work / "note.md").exists() else []),
        "## Quality",
        "",
        *quality_table(columns, all_results),
        "",
        "All clips are 4 s at 8 frames/s, as the models' are, without the noise of a camera, and compress to few kbit/s;",
        "the mark's own bits weigh more against those than against ordinary video.",
        "",
        "A frame, the same marked, and sixteen times what was added (flat, dark, gradients, texture):",
        "",
        "![What the mark adds](images/watermark-added.png)",
        "",
        "## Recovery",
        "",
        *attack_table(columns, all_results, attacks),
        "",
        "## False alarms",
        "",
        *false_alarms(results),
        "## Security",
        "",
        "Measured, not claimed away: the mark is a pointer to a manifest, no proof. Against copies, a store compares a",
        "fingerprint of the clip with the manifest's; against forgery, operators use private keys and change them.",
        "",
        *security(results),
        "## Speed",
        "",
        f"{platform.machine()}, {cpus} cores, shared with other programs while this ran.",
        "",
        *speed(results),
        "## Published figures for similar attacks",
        "",
        "Different clips, different payloads, and bit accuracy there against exact messages here: to compare orders",
        "of size, not digits. Sources: OmniSealBench's leaderboard CSV (sav_val_full_video_attacks_variations), the",
        "documentation of adobe/trustmark, and the study docs/videoseal-temporal-evaluation.md of",
        "wiltodelta/remove-ai-watermarks.",
        "",
        PUBLISHED,
        "## Clips",
        "",
        f"Reported, and not looked at before: sora-world seeds {worlds} (domain full); panned photographs {photos}",
        "(scikit-image, scikit-learn); videotestsrc patterns "
        + ", ".join(f"`{text}`" for text in clips.PATTERNS_REPORTED.values())
        + ";",
        f"in the columns 256 and 128 also sora-tiny's clips for {prompts}.",
        f"For tuning: seeds {', '.join(map(str, clips.WORLDS_TUNING))}; photographs {', '.join(clips.PHOTOS_TUNING)};"
        f" `{clips.PATTERNS_TUNING['circular']}`; other prompts.",
        "",
        "## Versions",
        "",
        f"- {command_line('ffmpeg', '-version')}",
        f"- {command_line('rustc', '--version')}",
        "- VMAF: ffmpeg of imageio-ffmpeg 0.8.1 with its built-in default model",
        "",
    ]
    out.write_text("\n".join(text))
