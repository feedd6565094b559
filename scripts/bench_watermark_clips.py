"""Test clips of the watermark benchmark: panned photographs and moving test patterns, as y4m.

Photographs come from the packages scikit-image and scikit-learn, which ship them; patterns from GStreamer's
videotestsrc; renders from crates/sora-world (example `attacks worlds`); in the small columns also what soragen makes
with models/sora-tiny (scripts/stage first). Every clip has four seconds at 8 frames/s. Clips named in TUNING were
looked at while the mark was made; REPORTED were not.
"""

import pathlib
import subprocess

FRAMES, RATE = 32, 8

PHOTOS_REPORTED = "astronaut coffee china motorcycle_left rocket hubble_deep_field camera coins gravel".split()
PHOTOS_TUNING = "chelsea flower grass brick ihc retina".split()
WORLDS_REPORTED = [90_101, 90_102, 90_103, 90_104, 90_105, 90_106, 90_107, 90_108, 90_109]
WORLDS_TUNING = [11, 12, 13, 14, 15, 16]
PATTERNS_REPORTED = {"smpte": "smpte horizontal-speed=3", "zone": "zone-plate kx2=12 ky2=9 kt=3"}
PATTERNS_TUNING = {"circular": "circular horizontal-speed=2"}
PROMPTS_REPORTED = {
    "cube": "a blue cube spins on the snow",
    "tree": "a green tree on the grass at sunset",
    "pyramid": "a purple pyramid slides on a checker floor, in neon",
    "boat": "a white boat floats on the sea at night",
}
PROMPTS_TUNING = {
    "ball": "a red ball bounces on the grass",
    "sunset": "a boat floats on the sea at sunset",
    "car": "a yellow car, pencil sketch",
}


def photo_path(name):
    import skimage
    import sklearn

    data = pathlib.Path(skimage.__file__).parent / "data"
    images = pathlib.Path(sklearn.__file__).parent / "datasets" / "images"
    for folder in (data, images):
        for suffix in (".png", ".jpg"):
            if (folder / (name + suffix)).exists():
                return folder / (name + suffix)
    raise SystemExit(f"no photograph {name} in scikit-image or scikit-learn")


def write_y4m(path, frames, width, height):
    header = f"YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode()
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        file.write(header)
        for frame in frames:
            file.write(b"FRAME\n" + frame)
    part.rename(path)


def yuv(rgb):
    """RGB as limited-range BT.709 4:2:0."""
    import numpy as np

    r, g, b = (rgb[..., i].astype(np.float32) for i in range(3))
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    planes = [16 + y * 219 / 255]
    for channel, span in ((b, 1.8556), (r, 1.5748)):
        c = (channel - y) / span
        c = (c[0::2, 0::2] + c[1::2, 0::2] + c[0::2, 1::2] + c[1::2, 1::2]) / 4
        planes.append(128 + c * 224 / 255)
    return b"".join(np.clip(np.round(plane), 16, 240).astype(np.uint8).tobytes() for plane in planes)


def pan(name, width, height, seed):
    """A slow move over a photograph: pan and zoom at a seeded direction, sub-pixel, bicubic."""
    import numpy as np
    from PIL import Image

    image = Image.open(photo_path(name)).convert("RGB")
    random = np.random.default_rng(seed)
    # The window covers 55 to 85 % of the largest fit, and moves within the rest.
    fit = min(image.width / width, image.height / height)
    start, end = random.uniform(0.6, 0.85, 2)
    corner = random.uniform(0, 1, (2, 2))
    for n in range(FRAMES):
        t = n / (FRAMES - 1)
        scale = fit * (start + (end - start) * t)
        place = corner[0] + (corner[1] - corner[0]) * t
        left = place[0] * (image.width - scale * width)
        top = place[1] * (image.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        yield yuv(np.asarray(image.resize((width, height), Image.BICUBIC, box=box)))


def pattern(path, description, width, height):
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={RATE}/1"
    command = f"videotestsrc num-buffers={FRAMES} pattern={description} ! {caps} ! y4menc ! filesink location={path}"
    subprocess.run(["gst-launch-1.0", "-q", *command.split()], check=True)


def generated(path, prompt, width, height):
    caps = f"video/x-raw,width={width},height={height}"
    source = ["soragen", f"prompt={prompt}", f"num-frames={FRAMES + 1}", "seed=7", "!", caps, "!", "videoconvert"]
    sink = f"! video/x-raw,format=I420 ! y4menc ! filesink location={path}"
    subprocess.run(["gst-launch-1.0", "-q", *source, *sink.split()], check=True)


def make(folder, width, height, tool, photos, worlds, patterns, prompts):
    """Makes what is missing of a column's clips."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(photos):
        path = folder / f"photo-{name}.y4m"
        if not path.exists():
            write_y4m(path, pan(name, width, height, 700 + i), width, height)
    for name, description in patterns.items():
        path = folder / f"pattern-{name}.y4m"
        if not path.exists():
            pattern(path, description, width, height)
    for name, prompt in prompts.items():
        path = folder / f"sora-{name}.y4m"
        if not path.exists():
            generated(path, prompt, width, height)
    missing = [str(seed) for seed in worlds if not (folder / f"world-{seed}.y4m").exists()]
    if missing:
        subprocess.run([tool, "worlds", folder, f"{width}x{height}", *missing], check=True)
