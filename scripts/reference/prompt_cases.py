"""Prompts with what the reference's cleaning and the tokenizers make of them."""

from diffusers.pipelines.wan.pipeline_wan import prompt_clean

MAX_LENGTH = 512

PROMPTS = {
    "plain": "a red ball bounces on the grass",
    "empty": "",
    "only-spaces": " \t\n ",
    "trimmed": "  a blue cube  ",
    "inner-whitespace": "a\tred\n\nball \r\n bounces\x0bslowly\x0cnow",
    "no-break-space": "a\u00a0red\u00a0\u00a0ball",
    "unicode-spaces": "a\u2003red\u2009ball\u3000on\u202fgrass\u2028next\u2029line\u1680end\u205f",
    "zero-width": "a\u200bred\ufeff ball\u200d.",
    "separators": "a\x1cred\x1dball\x1ebounces\x1fhere\x85now",
    "control-characters": "a red\x00 ball\x07 bo\x1bunces\x7f",
    "terminal-escape": "a \x1b[31mred\x1b[0m ball",
    "case-kept": "A Red BALL",
    "entity": "a red &amp; blue ball",
    "entity-twice": "a red &amp;amp; blue &amp;lt;ball&amp;gt;",
    "entity-three-times": "a red &amp;amp;amp; blue ball",
    "entity-named": "&quot;wide shot&quot; caf&eacute; &nbsp;&hellip; &copy; &notanentity; &amp",
    "entity-numeric": "a &#114;ed &#x62;all &#8217; &#128512; &#0; &#x110000;",
    "entity-without-semicolon": "red&ampblue &copy2024 &eacutecafe &lt3",
    "entity-next-to-tag": "<b>a red &amp; blue</b> ball &amp;lt;",
    "entity-upper-case": "&AMP; &Eacute; &EACUTE; &Lt; &NotExists;",
    "mojibake-utf8": "caf\u00c3\u00a9 with a view, na\u00c3\u00afve \u00e2\u0080\u0094 yes",
    "mojibake-windows": "It\u00e2\u20ac\u2122s a red ball \u00e2\u20ac\u201cfast\u00e2\u20ac\u009d",
    "mojibake-euro": "the price is \u00e2\u201a\u00ac5",
    "mojibake-twice": "caf\u00c3\u0192\u00c2\u00a9",
    "not-mojibake": "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m",
    "curly-quotes": "\u201ca red ball\u201d isn\u2019t \u2018blue\u2019 \u201elow\u201f \u2032prime\u2033",
    "latin-ligatures": "\ufb01lm o\ufb03ce \ufb02ower \u0133s \u01c6",
    "full-width": "\uff21 \uff52\uff45\uff44 ball\uff01 \uff8a\uff9d\uff76\uff78",
    "decomposed": "cafe\u0301 A\u030a n\u0303",
    "line-breaks": "a\r\nb\rc\u2028d\u0085e",
    "c1-controls": "a red\u0091ball\u0092 \u0080uro",
    "emoji": "a cat \U0001f431 with a \U0001f469\u200d\U0001f680 \u2764\ufe0f",
    "chinese": "\u4e00\u53ea\u732b\u5728\u8349\u5730\u4e0a\u5954\u8dd1\uff0c\u4f4e\u8d28\u91cf\u3002",
    "arabic": "\u0643\u0631\u0629 \u062d\u0645\u0631\u0627\u0621",
    "ellipsis-and-dashes": "a ball\u2026 rolls \u2013 slowly \u2014 away \u2212 5\u00b2",
    "special-tokens": "a red</s> ball <pad> on <unk> <s> grass <extra_id_0>",
    "metaspace-character": "a\u2581red \u2581ball",
    "long": "a red ball bounces on the grass, film grain; " * 60,
    "long-no-spaces": "redball" * 400,
    "exactly-at-limit": "a " * 511,
    "one-over-limit": "a " * 512,
    "wan-negative": "\u8272\u8c03\u8273\u4e3d\uff0c\u8fc7\u66dd\uff0c\u9759\u6001\uff0c\u7ec6\u8282\u6a21\u7cca\u4e0d\u6e05\uff0c\u5b57\u5e55",
}


def prompt_cases(tokenizers):
    """For each prompt the cleaned text and, per model, the ids with EOS and without padding."""
    entries = []
    for name, prompt in PROMPTS.items():
        cleaned = prompt_clean(prompt)
        ids = {}
        for model, tokenizer in tokenizers.items():
            encoded = tokenizer(
                [cleaned],
                padding="max_length",
                max_length=MAX_LENGTH,
                truncation=True,
                add_special_tokens=True,
                return_attention_mask=True,
            )
            ids[model] = encoded.input_ids[0][: sum(encoded.attention_mask[0])]
        entries.append({"name": name, "prompt": prompt, "cleaned": cleaned, "ids": ids})
    return entries
