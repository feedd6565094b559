#!/usr/bin/env python3
"""What the parts of a model cost in diffusers, with random weights: parts.py REQUEST.json.

Takes the requests of crates/sora-diffusion/examples/parts.rs and prints the same JSON for the parts that
diffusers has: text, forward, encode, decode. `"compile": true` adds `forward_compiled`, and `"limits": true`
the rates of this device: `matmul` (TFLOP/s in the request's format) and `copy` (GB/s).
"""

import json
import sys
import time

import torch

KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
WARM = 2


class Bench:
    def __init__(self, request):
        self.request = request
        self.device = torch.device(request["device"])
        self.kind = KINDS[request["dtype"]]
        self.vae_kind = KINDS[request["vae_dtype"]]

    def settle(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, run):
        times = []
        for _ in range(WARM + max(1, self.request["repeats"])):
            self.settle()
            began = time.perf_counter()
            run()
            self.settle()
            times.append((time.perf_counter() - began) * 1e3)
        times = sorted(times[WARM:])
        return {"best_ms": times[0], "median_ms": times[len(times) // 2]}

    def latent_size(self):
        vae = self.request["vae"]
        scale = vae["scale_factor_spatial"]
        frames = 1 + (self.request["frames"] - 1) // vae["scale_factor_temporal"]
        return frames, self.request["height"] // scale, self.request["width"] // scale

    def text(self):
        from transformers import UMT5Config, UMT5EncoderModel

        config = self.request["text_encoder"]
        with torch.device(self.device):
            model = UMT5EncoderModel(UMT5Config(**config)).to(self.kind).eval()
        shape = (1, self.request["prompt_tokens"])
        tokens = torch.randint(config["vocab_size"], shape, device=self.device)
        mask = torch.ones(shape, dtype=torch.long, device=self.device)
        return self.time(lambda: model(tokens, attention_mask=mask))

    def transformer(self):
        from diffusers import WanTransformer3DModel

        with torch.device(self.device):
            model = WanTransformer3DModel(**self.request["transformer"]).to(self.kind).eval()
        # As from_pretrained does it.
        for name, module in model.named_modules():
            if name.rsplit(".", 1)[-1] in ("time_embedder", "norm1", "norm2", "norm3"):
                module.float()
        for name, parameter in model.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.data = parameter.data.float()
        config = self.request["transformer"]
        shape = (1, config["in_channels"], *self.latent_size())
        latents = torch.randn(shape, dtype=self.kind, device=self.device)
        timestep = torch.full((1,), 500.0, device=self.device)
        # The reference pads every prompt to this.
        prompt = torch.randn((1, 512, config["text_dim"]), dtype=self.kind, device=self.device)
        return model, lambda model: model(latents, timestep, prompt, return_dict=False)

    def forward(self):
        model, run = self.transformer()
        return self.time(lambda: run(model))

    def forward_compiled(self):
        model, run = self.transformer()
        model = torch.compile(model)
        return self.time(lambda: run(model))

    def vae(self):
        from diffusers import AutoencoderKLWan

        with torch.device(self.device):
            return AutoencoderKLWan(**self.request["vae"]).to(self.vae_kind).eval()

    # diffusers has no way to go on with a stream: what one more latent frame costs is the difference of two clips.
    def difference(self, run):
        short, long = self.time(lambda: run(1)), self.time(lambda: run(3))
        each = {key: (long[key] - short[key]) / 2 for key in short}
        return {"chunk": each, "frames": self.request["vae"]["scale_factor_temporal"]}

    def decode(self):
        vae = self.vae()
        _, h, w = self.latent_size()
        z = torch.randn((1, self.request["vae"]["z_dim"], 4, h, w), dtype=self.vae_kind, device=self.device)
        return self.difference(lambda frames: vae.decode(z[:, :, : 1 + frames], return_dict=False))

    def encode(self):
        vae = self.vae()
        size = (self.request["height"], self.request["width"])
        video = torch.rand((1, 3, 13, *size), dtype=self.vae_kind, device=self.device) * 2 - 1
        return self.difference(lambda frames: vae.encode(video[:, :, : 1 + 4 * frames]))

    def limits(self):
        """Measured, not read off a data sheet."""
        n = 8192 if self.device.type == "cuda" else 2048
        a, b = (torch.randn((n, n), dtype=self.kind, device=self.device) for _ in range(2))
        matmul = self.time(lambda: a @ b)["best_ms"]
        source = torch.zeros(2**28 if self.device.type == "cuda" else 2**26, device=self.device)
        target = torch.empty_like(source)
        copy = self.time(lambda: target.copy_(source))["best_ms"]
        return {"matmul_tflops": 2 * n**3 / matmul / 1e9, "copy_gb_s": 2 * 4 * source.numel() / copy / 1e6}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        request = json.load(file)
    bench = Bench(request)
    found = {}
    parts = [part for part in request["parts"] if part in ("text", "forward", "encode", "decode")]
    if request.get("compile"):
        parts.append("forward_compiled")
    if request.get("limits"):
        parts.append("limits")
    with torch.no_grad():
        for part in parts:
            found[part] = getattr(bench, part)()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
