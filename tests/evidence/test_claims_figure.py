"""The figure that a claim's row opens to, and the row."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from claim_evidence import TEST, Numbers, claim, spread

from hps.evidence import render
from hps.evidence.claims import forest, page
from hps.evidence.claims.verdicts import evaluate, judge


def judged(of, numbers):
    return judge([evaluate(of, numbers, TEST)], TEST)[0]


def circles(svg: str, filled: bool) -> list[float]:
    """Places of the pooled means (filled) or of the seeds' means, from left to right."""
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle")
    return sorted(float(one.get("cx")) for one in found if (one.get("fill") != "none") == filled)


def test_each_seed_stands_where_its_mean_is():
    means = (1.0, 2.0, 4.0)
    rows = np.stack([spread(mean, 0.5, seed=seed) for seed, mean in enumerate(means)])
    result = judged(claim(smallest=0.5), Numbers(seeds=(0, 1, 2), a=rows, b=np.zeros((3, 30))))
    (effect,) = result.effects
    assert effect.by_seed == pytest.approx(means)
    seeds, (pooled,) = circles(forest.figure(result), False), circles(forest.figure(result), True)
    assert pooled == pytest.approx(np.mean(seeds), abs=0.1)
    assert (seeds[2] - seeds[1]) / (seeds[1] - seeds[0]) == pytest.approx(2, abs=0.05)


def test_prompts_without_a_value_under_one_seed_are_left_out_under_all():
    rows = np.stack([spread(1, 0.5), spread(2, 0.5, seed=1)])
    rows[0, 0] = np.nan
    (effect,) = judged(claim(), Numbers(seeds=(0, 1), a=rows, b=np.zeros((2, 30)))).effects
    assert effect.by_seed == pytest.approx(rows[:, 1:].mean(axis=1))
    assert np.mean(effect.by_seed) == pytest.approx(effect.mean)


def test_a_ratio_by_seed_is_one_of_means():
    b = np.stack([spread(10, 1), spread(20, 1, seed=1)])
    (effect,) = judged(claim("ratio_at_most", limit=2), Numbers(seeds=(0, 1), a=b * [[1.5], [0.5]], b=b)).effects
    assert effect.by_seed == pytest.approx((1.5, 0.5))


def test_without_seeds_or_with_one_there_is_the_pooled_effect_alone():
    for seeds in ((), (0,)):
        result = judged(claim("within", tolerance=0.5), Numbers(seeds=seeds, a=spread(0.1, 0.2), b=np.zeros(30)))
        svg = forest.figure(result)
        assert (len(circles(svg, True)), circles(svg, False)) == (1, [])
        assert svg.count("stroke-dasharray") == 2
        assert "between the dashed lines" in forest.caption(result)
        assert "Hollow" not in forest.caption(result)


def test_an_end_that_is_infinite_is_drawn_to_the_edge():
    svg = forest.figure(judged(claim("ratio_at_most", limit=1.05), Numbers(a=[[1.0, 2.0]], b=[[3.0, 0.1]])))
    places = [float(x) for x in re.findall(r' (?:x1|x2|cx|x)="([^"]+)"', svg)]
    assert all(0 <= x <= forest.WIDTH for x in places)
    assert "∞" in svg


def test_it_says_in_words_what_it_shows_and_takes_no_name_for_markup():
    of = claim(first="$m", each={"m": ["<b>x</b>", "y"]})
    numbers = Numbers(seeds=(0, 1), b=np.zeros((2, 30)))
    numbers.by_method |= {name: np.stack([spread(1, 0.1)] * 2) for name in ("<b>x</b>", "y")}
    svg = forest.figure(judged(of, numbers))
    says = ElementTree.fromstring(svg).get("aria-label")
    assert says.startswith("<b>x</b> 1.000 [")
    assert ", by seed 1, 1; y 1.000" in says
    assert "<b>" not in svg


def test_the_row_opens_to_it_in_html_alone():
    (result,) = [judged(claim(), Numbers(a=spread(1, 0.1), b=np.zeros(30)))]
    empty = judged(claim(id="none"), Numbers())
    shown = page.to_page([(result, result), (empty, empty)], TEST, "real")
    assert render.html(shown).count("<details>") == 1
    assert "<svg" in render.html(shown)
    assert "<svg" not in render.markdown(shown)
    assert forest.figure(empty) == ""


def test_a_figure_of_the_longest_claim_is_small():
    (result,) = [judged(claim(first="a", each={"x": [f"pku_saferlhf, {i}" for i in range(10)]}, smallest=0.5),
                        Numbers(seeds=range(5), a=np.ones((5, 1)) * spread(1, 1), b=np.zeros((5, 30))))]  # fmt: skip
    assert len(result.effects) == 10
    assert len(forest.figure(result)) < 10_000
