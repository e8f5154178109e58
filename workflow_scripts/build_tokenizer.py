"""Build a byte-level BPE tokenizer with a chat template from the texts of preference pairs.

    python workflow_scripts/build_tokenizer.py --pairs data/hh_rlhf/sft.parquet data/pku_saferlhf/sft.parquet \\
        --vocab-size 768 --out models/tokenizer
"""

import logging
from dataclasses import asdict, dataclass

from hps.data import stages
from hps.data.schemas import PAIRS
from hps.support import cli, files, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("build_tokenizer")):
    pairs: list[str] = argument("preference pairs (Parquet)", nargs="+")
    out: str = argument("folder to write")


def main(arguments: Arguments) -> None:
    from hps.models.scratch import build_tokenizer

    if arguments.vocab_size < 262:
        raise InputError("--vocab-size", f"{arguments.vocab_size} is less than the 256 bytes and 6 special tokens")
    texts = []
    for path in arguments.pairs:
        for row in stages.rows(path, PAIRS):
            texts += [*(message["content"] for message in row["messages"]), row["chosen"], row["rejected"]]
    tokenizer = build_tokenizer(texts, arguments.vocab_size)
    tokens = sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
    words = sum(len(text.split()) for text in texts)
    facts = {"tokens": len(tokenizer), "tokens_a_word": tokens / words, "texts": len(texts)}
    with files.writing(arguments.out) as folder:
        tokenizer.save_pretrained(folder)
        files.write_json(
            folder / "facts.json", facts | {"provenance": provenance.collect(asdict(arguments), arguments.pairs)}
        )
    logging.info("%d tokens, %.2f a word, from %d texts", len(tokenizer), tokens / words, len(texts))


if __name__ == "__main__":
    cli.run(main, Arguments)
