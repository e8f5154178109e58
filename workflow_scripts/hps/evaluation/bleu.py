"""Sentence BLEU against the preferred answer, over words and over characters; both from sacrebleu, in [0, 1]."""

from __future__ import annotations

from functools import cache

from sacrebleu.metrics import BLEU


@cache
def _word() -> BLEU:
    return BLEU(effective_order=True)


@cache
def _char() -> BLEU:
    return BLEU(tokenize="char", smooth_method="none", effective_order=False)


def word_bleu(hypothesis: str, reference: str) -> float:
    """sacrebleu's sentence BLEU with its default tokenizer (13a) and smoothing."""
    return _word().sentence_score(hypothesis, [reference]).score / 100


def char_bleu(hypothesis: str, reference: str) -> float:
    """BLEU over characters, as the released code's `sentence_bleu` of NLTK gives on raw strings (eval_score.py).

    There white space counts like any other character and nothing is smoothed. sacrebleu's character tokenizer drops
    white space, so each such character is first replaced by one of its own outside Unicode's assigned ranges.
    """
    # A corpus of one sentence: sentence_score would warn each time that it is meant to be used with effective order.
    return _char().corpus_score([_visible(hypothesis)], [[_visible(reference)]]).score / 100


def _visible(text: str) -> str:
    return "".join(chr(0xF0000 + ord(character)) if character.isspace() else character for character in text)


def signatures() -> dict[str, str]:
    """sacrebleu's signature of each variant, for the result files."""
    word_bleu("a", "a"), char_bleu("a", "a")  # a metric has its signature once it was used
    return {"word": str(_word().get_signature()), "char": str(_char().get_signature())}
