"""Sentence BLEU against the preferred answer, over words and over characters; both from sacrebleu, in [0, 1]."""

from __future__ import annotations

from functools import cache

from sacrebleu.metrics import BLEU

VISIBLE_SPACE = "\u2581"


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

    There a space is a character like any other and nothing is smoothed. sacrebleu's character tokenizer drops white
    space, so it is made visible first.
    """
    visible = (" ".join(text.replace(" ", VISIBLE_SPACE).splitlines()) for text in (hypothesis, reference))
    hypothesis, reference = visible
    return _char().sentence_score(hypothesis, [reference]).score / 100


def signatures() -> dict[str, str]:
    """sacrebleu's signature of each variant, for the result files."""
    word_bleu("a", "a"), char_bleu("a", "a")  # a metric has its signature once it was used
    return {"word": str(_word().get_signature()), "char": str(_char().get_signature())}
