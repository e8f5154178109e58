"""Claims and evidence made up, for the tests of claims."""

import numpy as np
from conftest import ROOT

from hps.evidence.claims.evidence import Measured, Settings
from hps.evidence.claims.verdicts import Level, evaluate, judge
from hps.evidence.claims.vocabulary import Claim
from hps.evidence.table_rows import Choices

CLAIMS, SCHEMA, PAPER = ROOT / "paper/claims.yaml", ROOT / "paper/claims.schema.yaml", ROOT / "paper"
TEST = Level()
CONFIG = {"grid.n": 100, "objective.beta": 0.1, "ablations.dataset": "hh_rlhf", "seeds": [0, 1, 2], "seeds_of": {}}
SETTINGS = Settings(CONFIG, Choices())


class Numbers:
    """Evidence made up: a number for each unit of a method, by its name; without seeds, not a matter of seeds."""

    def __init__(self, seeds=(), **values):
        self.by_method = {name.replace("_", "-"): np.atleast_2d(np.array(rows, float)) for name, rows in values.items()}
        self.seeds = seeds

    def measure(self, table, operand):
        values = self.by_method.get(operand.cell["method"])
        if values is None:
            return None
        units = tuple(f"p{i}" for i in range(values.shape[1]))
        return Measured(float(np.nanmean(values)), values, units, self.seeds)

    def values(self, table, column):
        return sorted(self.by_method)

    def why_absent(self, table):
        return "" if self.by_method else "nothing was made"

    def why_unequal(self, operands):
        return ""


def claim(kind="greater", first="a", second="b", each=None, id="it", smallest=None, **details) -> Claim:
    operands = {"first": {"method": first}, "second": {"method": second}}
    if kind in ("at_least", "at_most"):
        operands = {"of": {"method": first}}
    return Claim(id, "Sec. 0", "says", "t", kind, {"metric": "m", **operands, **details}, each or {}, smallest=smallest)


def verdict(of: Claim, evidence, test=TEST) -> str:
    (result,) = judge([evaluate(of, evidence, test)], test)
    return result.verdict


def spread(mean: float, sd: float, units=30, seed=0) -> np.ndarray:
    """Values with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).normal(size=units)
    return mean + sd * (values - values.mean()) / values.std()
