"""What the report's rules ask of a configuration: which tables there are, from which runs, and what each part reads.

Nothing here needs Snakemake. Paths are relative to the repository's root.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hps.evidence.needs import by_key, needed
from hps.evidence.tables import EVALUATIONS, FOLDER, TABLES, TableSpec, figures, tables
from hps.runs import Run
from hps.workflow.grid import ablation_runs, attribution_runs, beta_runs, grid_runs, n_runs
from hps.workflow.pipeline import Pipeline

BESIDE_THE_PAPERS = (
    "Ours stands beside the paper's, where the paper has it; brackets hold 95 % intervals. ▼ and ▽ mark cells whose "
    "difference to BT has the other direction than in the paper. The CSV beside this file has all that was measured."
)
"""What the caption of a table says of every table."""
PAPER_NUMBERS = [f"{FOLDER}/{name}" for name in (*(spec.paper for spec in TABLES.values() if spec.paper), "quoted.csv")]


@dataclass(frozen=True)
class Reported:
    """The questions, for one configuration."""

    pipeline: Pipeline

    @cached_property
    def runs(self) -> dict[str, list[Run]]:
        """The runs that a table can show, by the name in its entry."""
        config = self.pipeline.config
        named = {"grid": grid_runs, "n": n_runs, "beta": beta_runs, "attribution": attribution_runs}
        ablations = {name: runs for name, (_, runs) in ablation_runs(config).items()}
        return {name: runs_of(config) for name, runs_of in named.items()} | ablations

    @cached_property
    def known(self) -> dict[str, TableSpec]:
        """All tables that the registry and the configuration name."""
        return tables(self.pipeline.config["ablations"]["over"])

    @cached_property
    def tables(self) -> dict[str, TableSpec]:
        """The tables that have runs: without transfer, none of it."""
        return {
            name: spec
            for name, spec in self.known.items()
            if self.runs[spec.runs] and (self.pipeline.transfer or not spec.transfer)
        }

    @cached_property
    def without_runs(self) -> dict[str, str]:
        """The tables that cannot be made, by name, each with a line that says why."""
        left_out = [(name, spec) for name, spec in self.known.items() if name not in self.tables]
        why = {True: "evaluation.transfer is false", False: "The configuration asks for no runs of it"}
        return {
            name: f"{spec.title}: left out of the report. {why[bool(self.runs[spec.runs])]}" for name, spec in left_out
        }

    @cached_property
    def figures(self) -> dict[str, list[str]]:
        """The figures that are drawn from tables, each with its tables."""
        return figures(self.tables)

    def evaluations(self, spec: TableSpec) -> list[str]:
        """Folders of what a table is made from: of each policy, those of its test sets."""
        pipeline, sets = self.pipeline, self.pipeline.config["grid"]["datasets"]
        found = [pipeline.evaluation(policy, test_set) for policy in pipeline.sft for test_set in sets if spec.sft]
        if spec.compares:
            found += [pipeline.evaluation(policy, test_set) for policy in pipeline.of_others for test_set in sets]
        for run in self.runs[spec.runs]:
            tested = pipeline.transfer_sets(run) if spec.transfer else [run.dataset]
            if spec.varies != "evaluated_on":
                tested = tested[:1]  # a table of numbers (Table 7) has one test set
            found += [pipeline.evaluation(run.name, test_set) for test_set in tested]
        return found

    @cached_property
    def claimed(self) -> list[str]:
        """The runs of the paper's tables, which its claims are about, by name."""
        shown = [spec for spec in self.tables.values() if spec.source == EVALUATIONS and spec.paper]
        return list(dict.fromkeys(run.name for spec in shown for run in self.runs[spec.runs]))

    def config(self, part: str, specs: Iterable[TableSpec] = ()) -> str:
        """The keys that a part reads, as JSON for its command: a parameter, so that their change makes it anew."""
        further = [key for spec in specs for key in spec.needs]
        return shlex.quote(json.dumps(needed(by_key(self.pipeline.config.values), part, further)))

    def caption(self, text: str, what: str = "Ours: results") -> str:
        """A caption of the report, which says first whether what was measured is of a toy world."""
        if self.pipeline.config["world"] != "toy":
            return text
        toy = "small models trained from scratch on synthetic text, not the paper's models and data"
        return f"**{what} of a toy world**: {toy}. {text}"
