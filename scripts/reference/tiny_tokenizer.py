"""A small T5-style Unigram tokenizer, trained on sentences made here.

Ids: 0 <pad>, 1 </s>, 2 <unk>. SentencePiece trains it (its trainer gives the
same pieces in every run, the one of `tokenizers` does not) together with a
character map, the normalizer that the real UMT5 tokenizer has too. The map here
has a handful of rules: the full NFKC table would outweigh a fixture's weights.
"""

import io
import itertools
import tempfile
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import T5Tokenizer

from fixture_io import save_json

WORDS = {
    "article": ["a", "the", "one", "two", "another", "this"],
    "colour": ["red", "blue", "green", "yellow", "orange", "purple", "white", "black", "golden"],
    "subject": ["ball", "cube", "cat", "birds", "dog", "robot", "sailboat", "child", "flower", "train"],
    "action": ["bounces", "rolls slowly", "jumps", "is flying", "spinning", "falls", "melts", "explodes"],
    "place": [
        "on the grass",
        "over the water",
        "in the snow",
        "through a city street",
        "under the moonlight",
        "between tall mountains",
        "across an empty desert",
    ],
    "style": [
        "cinematic, 4k",
        "film grain; soft light",
        "blurry, low quality",
        "close-up, 35mm",
        '"wide shot"',
    ],
}
CHINESE = ["一只猫在草地上奔跑", "红色的球在跳", "低质量, 模糊的画面"]

# What the character map rewrites: ligature, ellipsis, ideographic space, a
# full-width letter and a superscript. NFKC has all of these too.
CHARACTER_RULES = {"\ufb01": "fi", "\u2026": "...", "\u3000": " ", "\uff21": "A", "\u00b2": "2"}


def sentences():
    """A fixed selection of the combinations of the word lists."""
    combinations = itertools.product(*WORDS.values())
    for article, colour, subject, action, place, style in itertools.islice(combinations, 0, None, 17):
        yield f"{article} {colour} {subject} {action} {place}, {style}."
    for sentence in CHINESE:
        yield from [sentence] * 20
    # Every printable ASCII character gets a piece of its own.
    yield from [" ".join(chr(code) for code in range(33, 127))] * 3


def trained_model(size, byte_fallback):
    """A SentencePiece model proto with at most `size` pieces."""
    with tempfile.TemporaryDirectory() as directory:
        rules = Path(directory) / "rules.tsv"
        with rules.open("w", encoding="utf-8") as file:
            for source, target in CHARACTER_RULES.items():
                columns = (" ".join(f"{ord(char):X}" for char in text) for text in (source, target))
                file.write("\t".join(columns) + "\n")
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=model,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            byte_fallback=byte_fallback,
            normalization_rule_tsv=str(rules),
            num_threads=1,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece="<pad>",
            minloglevel=2,
        )
    return sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())


def tiny_tokenizer(size=320):
    model = trained_model(size, byte_fallback=False)
    return T5Tokenizer(
        vocab=[(piece.piece, round(piece.score, 4)) for piece in model.pieces],
        _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap,
        extra_ids=0,
        model_max_length=512,
    )


def write_umt5_tokenizer(directory, size=576):
    """A tokenizer directory laid out like the one of google/umt5-xxl.

    <s> takes id 2, <unk> id 3, then 256 byte pieces with byte fallback on, and a
    bare Metaspace pre-tokenizer. The class T5Tokenizer of transformers 5 keeps
    only the pieces, the character map and the post-processor of such a file: it
    sets unk_id to 2, turns byte fallback off and splits at white space first.
    """
    model = trained_model(size, byte_fallback=True)
    vocab = [(piece.piece, round(piece.score, 4)) for piece in model.pieces]
    vocab.insert(2, ("<s>", 0.0))
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=True))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<s>", "<unk>"])
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    save_json(
        directory / "tokenizer_config.json",
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "extra_ids": 0,
            "model_max_length": 512,
            "pad_token": "<pad>",
            "tokenizer_class": "T5Tokenizer",
            "unk_token": "<unk>",
        },
    )
    return T5Tokenizer.from_pretrained(directory)
