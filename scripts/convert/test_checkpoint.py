"""Tests of the conversion, on tiny random checkpoints."""

import json
import pickle
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
from safetensors import safe_open

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import checkpoint  # noqa: E402

DIM, FFN, TEXT, FREQUENCIES, CHANNELS, LAYERS = 12, 20, 8, 16, 4, 2


def transformer():
    """The tensors of a tiny Wan transformer under their original names."""
    known = {
        "patch_embedding.weight": torch.empty(DIM, CHANNELS, 1, 2, 2),
        "text_embedding.0.weight": torch.empty(DIM, TEXT),
        "time_embedding.0.weight": torch.empty(DIM, FREQUENCIES),
        "blocks.0.ffn.0.weight": torch.empty(FFN, DIM),
        f"blocks.{LAYERS - 1}.norm3.bias": torch.empty(DIM),
        "head.head.weight": torch.empty(CHANNELS * 4, DIM),
    }
    expected, _ = checkpoint.expected_transformer(known)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in expected.items()}


class Conversion(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.input = Path(folder.name) / "tiny.pt"
        self.output = Path(folder.name) / "tiny.safetensors"

    def converted(self, content, *options):
        torch.save(content, self.input)
        arguments = [str(self.input), str(self.output), *options]
        said = checkpoint.convert(checkpoint.parser().parse_args(arguments))
        with safe_open(self.output, "pt") as file:
            metadata = file.metadata()
            return {name: file.get_tensor(name) for name in file.keys()}, metadata, "\n".join(said)

    def refused(self, content, *options):
        if content is not None:
            torch.save(content, self.input)
        arguments = [str(self.input), str(self.output), *options]
        with self.assertRaises(checkpoint.Refused) as refusal:
            checkpoint.convert(checkpoint.parser().parse_args(arguments))
        self.assertFalse(self.output.exists())
        return str(refusal.exception)

    def test_the_program_ends_with_one_line(self):
        command = [sys.executable, str(HERE / "checkpoint.py"), str(self.input), str(self.output)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^error: .*tiny.pt cannot be converted: it is not a file\n$")

    def test_the_averaged_network_is_taken_with_every_wrapper_off(self):
        tensors = transformer()
        wrapped = {f"model._fsdp_wrapped_module.{name}": tensor for name, tensor in tensors.items()}
        other = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
        made, metadata, said = self.converted({"generator": other, "generator_ema": wrapped}, "--dtype", "f32")
        self.assertEqual(made.keys(), tensors.keys())
        for name, tensor in tensors.items():
            self.assertTrue(torch.equal(made[name], tensor), name)
        self.assertEqual(
            json.loads(metadata["sora.causal"]),
            {
                "num_frame_per_block": 3,
                "independent_first_frame": False,
                "denoising_step_list": [1000, 750, 500, 250],
                "denoising_step_list_first_chunk": [],
                "warp_denoising_step": True,
                "timestep_shift": 5.0,
                "context_noise": 0.0,
                "local_attn_size": -1,
                "sink_size": 3,
                "rotation": "relative",
                "numerics": "self-forcing",
            },
        )
        self.assertIn("`generator_ema`", said)

    def test_another_place_and_recipe_can_be_chosen(self):
        tensors = transformer()
        options = ["--place", "generator", "--recipe", "framewise-2step", "--local-attn-size", "9", "--no-warp"]
        made, metadata, _ = self.converted({"generator": tensors, "generator_ema": {"x": torch.zeros(1)}}, *options)
        self.assertEqual(made["head.modulation"].dtype, torch.bfloat16)
        config = json.loads(metadata["sora.causal"])
        self.assertEqual(config["num_frame_per_block"], 1)
        self.assertEqual(config["denoising_step_list"], [1000, 500])
        self.assertEqual(config["denoising_step_list_first_chunk"], [1000, 750, 500, 250])
        self.assertEqual((config["local_attn_size"], config["warp_denoising_step"]), (9, False))

    def test_what_only_training_needs_is_left_out(self):
        tensors = transformer()
        extra = {"_cls_pred_branch.0.weight": torch.zeros(3), "_gan_ca_blocks.0.q.weight": torch.zeros(3)}
        made, _, said = self.converted({"generator": tensors | extra})
        self.assertEqual(made.keys(), tensors.keys())
        self.assertIn("left out: 1 tensors of `_cls_pred_branch`", said)

    def test_a_tiny_vae_keeps_its_names(self):
        tensors = {"encoder.0.weight": torch.randn(4, 3, 3, 3), "decoder.1.weight": torch.randn(4, 16, 3, 3)}
        made, metadata, _ = self.converted(tensors)
        self.assertEqual(made.keys(), tensors.keys())
        self.assertEqual(made["encoder.0.weight"].dtype, torch.float16)
        self.assertNotIn("sora.causal", metadata)

    def test_a_file_of_an_old_pytorch_is_read_too(self):
        tensors = {"encoder.0.weight": torch.randn(4, 3, 3, 3), "decoder.1.weight": torch.randn(4, 16, 3, 3)}
        torch.save(tensors, self.input, _use_new_zipfile_serialization=False)
        checkpoint.convert(checkpoint.parser().parse_args([str(self.input), str(self.output)]))
        self.assertTrue(self.output.exists())

    def test_what_does_not_fit_is_refused_by_name(self):
        tensors = transformer()
        without = {name: tensor for name, tensor in tensors.items() if name != "blocks.1.cross_attn.k.bias"}
        for content, part in [
            ({"generator": without}, "`blocks.1.cross_attn.k.bias`"),
            ({"generator": tensors | {"blocks.1.gate.weight": torch.zeros(1)}}, "`blocks.1.gate.weight`"),
            ({"generator": tensors | {"head.modulation": torch.zeros(1, 3, DIM)}}, "[1, 3, 12], [1, 2, 12] is needed"),
            ({"generator": tensors | {"blocks.0.self_attn.q.lora_A.weight": torch.zeros(1)}}, "LoRA"),
            ({"generator": tensors | {"img_emb.proj.0.weight": torch.zeros(1)}}, "image-to-video"),
            ({"generator": tensors | {"head.head.bias": torch.full((16,), torch.nan)}}, "not finite"),
            ({"generator": tensors | {"head.head.bias": torch.zeros(16, dtype=torch.int64)}}, "floating point"),
            ({"generator": tensors | {"model.head.modulation": torch.zeros(1)}}, "come to the name `head.modulation`"),
            ({"optimizer": {"x": torch.zeros(1)}, "step": 3}, "it has: optimizer, step"),
            ({"generator": {"a": 3}}, "`generator` is not a dictionary of tensors"),
            ({"generator": {"conv.weight": torch.zeros(1)}}, "`patch_embedding.weight` is missing"),
            ([1, 2], "a list, not a dictionary"),
        ]:
            self.assertIn(part, self.refused(content))
        self.assertIn("`critic`", self.refused({"generator": tensors}, "--place", "critic"))
        self.assertIn("at least 6", self.refused({"generator": tensors}, "--local-attn-size", "5"))
        self.assertIn("fall", self.refused({"generator": tensors}, "--denoising-step-list", "250,500"))

    def test_a_file_that_is_none_is_refused(self):
        self.input.write_bytes(b"these are not the tensors")
        self.assertIn("no PyTorch checkpoint", self.refused(None))
        self.input.unlink()
        self.assertIn("is not a file", self.refused(None))

    def test_nothing_in_a_file_is_run(self):
        class Trap:
            def __reduce__(self):
                return (Path.touch, (Path(self.marker),))

        marker = self.input.with_suffix(".ran")
        Trap.marker = str(marker)
        torch.save({"generator": Trap()}, self.input, pickle_module=pickle)
        self.assertIn("not run", self.refused(None))
        self.assertFalse(marker.exists())


if __name__ == "__main__":
    unittest.main()
