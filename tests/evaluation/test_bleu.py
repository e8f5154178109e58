"""BLEU over words and characters, against hand-worked values and NLTK's, which the released code calls."""

import warnings

import pytest
from nltk.translate.bleu_score import sentence_bleu

from hps.evaluation.bleu import char_bleu, signatures, word_bleu

TEXTS = [
    ("mix the flour with water", "mix the flour with warm water and wait"),
    ("I cannot help with that, sorry.", "I will not help with that."),
    ("Sure! Take a key and open the door.", "Sure, take the key.\nThen open the door."),
    ("the same text", "the same text"),
    ("nothing in common", "12345 67890"),
    ("1. mix\n2. wait\t\u00a0then bake\n", "1. mix it\n2. wait\tthen  bake"),
]


@pytest.mark.parametrize(("hypothesis", "reference"), TEXTS)
def test_characters_are_nltks_sentence_bleu_on_raw_strings(hypothesis, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK warns where no 4-gram matches
        expected = sentence_bleu([reference], hypothesis)
    assert char_bleu(hypothesis, reference) == pytest.approx(expected, abs=1e-6)


def test_words_by_hand():
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 fours match: the geometric mean of the four."""
    assert word_bleu("a b c d x", "a b c d e") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_edges():
    assert word_bleu("", "a b") == char_bleu("", "a b") == 0
    assert word_bleu("a b c d", "a b c d") == pytest.approx(1)
    assert char_bleu("abcd", "abcd") == pytest.approx(1)


def test_signatures_name_tokenizer_and_smoothing():
    assert "tok:13a" in signatures()["word"]
    assert "tok:char" in signatures()["char"]
    assert "smooth:none" in signatures()["char"]
