"""TAEHV, the tiny video autoencoder, on random weights and narrow layers.

The layers and the loops are those of the repository; only the widths, which its
class has fixed, are small here. The weights are stored in f16, as the published
ones are, and computed with in f32.
"""

import importlib
import sys

import torch

from fixture_io import VERSIONS, randn, save_json, save_tensors
from tiny_models import randomize

# name, latent channels, patch size
LAYOUTS = [("taew2_1", 16, 1), ("taew2_2", 48, 2)]
ENCODER_WIDTH = 4
DECODER_WIDTHS = [6, 5, 4, 3]
LATENTS, HEIGHT, WIDTH = 4, 2, 3
FRAMES = 12


def narrow(taehv, channels, patch):
    """An instance of the repository's class with narrow layers of its own kinds."""
    model = taehv.TAEHV(checkpoint_path=None, patch_size=patch, latent_channels=channels)
    conv, pool, grow, block = taehv.conv, taehv.TPool, taehv.TGrow, taehv.MemBlock
    n, f = ENCODER_WIDTH, DECODER_WIDTHS
    encoder = [conv(3 * patch**2, n), torch.nn.ReLU()]
    for stride in (2, 2, 1):
        encoder += [pool(n, stride), conv(n, n, stride=2, bias=False), block(n, n), block(n, n), block(n, n)]
    encoder.append(conv(n, channels))
    decoder = [taehv.Clamp(), conv(channels, f[0]), torch.nn.ReLU()]
    for level, stride in enumerate((1, 2, 2)):
        a, b = f[level], f[level + 1]
        decoder += [block(a, a), block(a, a), block(a, a), torch.nn.Upsample(scale_factor=2)]
        decoder += [grow(a, stride), conv(a, b, bias=False)]
    decoder += [torch.nn.ReLU(), conv(f[3], 3 * patch**2)]
    model.encoder = torch.nn.Sequential(*encoder)
    model.decoder = torch.nn.Sequential(*decoder)
    return model


def write_taehv(root, checkout, commit):
    """Per layout the weights in f16, `latents` → `pixels`, `video` → `encoded`; [N,T,C,H,W] all of them.

    `latents` and `video` are not stored: they are what the seeds 21 and 22 draw
    (`video` after a sigmoid).
    """
    sys.path.insert(0, str(checkout.resolve()))
    taehv = importlib.import_module("taehv")
    cases = []
    for name, channels, patch in LAYOUTS:
        model = randomize(f"taehv/{name}", narrow(taehv, channels, patch))
        # Pixels around the middle of their range, so that few of them are clamped.
        model.decoder[-1].weight.mul_(0.25)
        model.decoder[-1].bias.mul_(0.5).add_(0.5)
        model.half().float()
        weights = {key: value.half() for key, value in model.state_dict().items()}
        save_tensors(root / "taehv" / f"{name}.safetensors", weights)
        latents = torch.randn(1, LATENTS, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(21))
        scale = 8 * patch
        video = torch.randn(
            1, FRAMES, 3, HEIGHT * scale, WIDTH * scale, generator=torch.Generator().manual_seed(22)
        ).sigmoid()
        pixels = model.decode_video(latents, parallel=False, show_progress_bar=False)
        encoded = model.encode_video(video, parallel=False, show_progress_bar=False)
        clamped = ((pixels == 0) | (pixels == 1)).float().mean().item()
        assert clamped < 0.3, (name, clamped)
        # Every second row and column is enough of the pixels.
        save_tensors(
            root / "taehv" / f"{name}-case.safetensors",
            {"pixels": pixels[..., ::2, ::2], "encoded": encoded},
        )
        cases.append({"name": name, "latents": list(latents.shape), "video": list(video.shape)})
    save_json(root / "taehv" / "cases.json", {"versions": {**VERSIONS, "taehv": commit}, "cases": cases})
