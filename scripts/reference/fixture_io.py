"""Reading and writing that every fixture module shares.

Every random number of the fixtures comes from `generator(name)`: one CPU
generator per tensor, seeded by the tensor's name. Adding a case therefore never
changes the numbers of another one.
"""

import json
import struct
import zlib
from pathlib import Path

import diffusers
import safetensors
import safetensors.torch
import tokenizers
import torch
import transformers

VERSIONS = {
    "torch": torch.__version__.split("+")[0],
    "diffusers": diffusers.__version__,
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
    "safetensors": safetensors.__version__,
}


def generator(name):
    """A CPU generator whose seed is the CRC-32 of `name`."""
    return torch.Generator("cpu").manual_seed(zlib.crc32(name.encode()))


def randn(name, *shape):
    return torch.randn(*shape, generator=generator(name))


def save_tensors(path, tensors):
    """Write one safetensors file with the library versions in its metadata."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    data = safetensors.torch.save(tensors, metadata={"format": "pt", **VERSIONS})
    path.write_bytes(with_sorted_header(data))


def with_sorted_header(data):
    """The same file with its header keys sorted.

    The library writes the metadata in the order of a hash map, another one in
    each run; the fixtures should come out the same to the byte.
    """
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def stamp_versions(directory):
    """Add the library versions to the safetensors files that `save_pretrained` wrote."""
    for path in sorted(Path(directory).rglob("*.safetensors")):
        save_tensors(path, safetensors.torch.load_file(path))


def save_json(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")
