"""Model cards of what a run publishes: what a policy was trained on, its rows of the tables, licence, how to load it.

A policy's card lies beside its weights, and the repository's own in its first folder, where the hub shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from hps.evidence.metrics import METRICS
from hps.evidence.render import Cell, Column, Page, Table, interval, markdown, world_note
from hps.evidence.results import Training, number, plain
from hps.evidence.statistics import CONFIDENCE
from hps.evidence.tables import TableSpec
from hps.runs import Run
from hps.support.errors import InputError
from hps.support.files import read_json
from hps.support.provenance import ADAPTER

PAPER = "[HPS: Hard Preference Sampling for Human Preference Alignment](https://arxiv.org/abs/2502.14400v5)"
Row = Mapping[str, str]


@dataclass(frozen=True)
class Publication:
    """What the cards of a repository share.

    repo: owner/name on the hub. license: as the hub spells it; empty: none is stated. config: its values by dotted key.
    base: model.json of the policy before training, which lies in base_folder. counts: counts.json by data set.
    tables: the rows of each table's CSV.
    """

    repo: str
    license: str
    config: Mapping[str, Any]
    base: Mapping[str, Any]
    base_folder: str
    counts: Mapping[str, Mapping[str, Any]]
    tables: Sequence[tuple[TableSpec, Sequence[Row]]]

    @property
    def on_the_hub(self) -> bool:
        """Whether the base came from there."""
        return self.base["source"] == "hub"

    @property
    def base_name(self) -> str:
        """What a user loads the base by."""
        return self.base["repo"] if self.on_the_hub else self.base_folder

    def metadata(self, datasets: Sequence[str], **more: Any) -> ModelCardData:
        """What the hub reads of a card: the base and the data only where they are on the hub."""
        sources = [source for name in datasets for source in _sources(self.counts[name])]
        return ModelCardData(
            base_model=self.base["repo"] if self.on_the_hub else None,
            license=self.license or None,
            datasets=list(dict.fromkeys(source["hub"] for source in sources if "hub" in source)) or None,
            pipeline_tag="text-generation",
            **more,
        )


def policy_card(publication: Publication, training: Training) -> str:
    """The card of one policy.

    Raises InputError naming the file when its adapter is on another base than the publication's.
    """
    run, settings = training.run, training.provenance["settings"]
    config = adapter_config(publication, training.folder / "policy")
    what = f"All weights of {_base(publication)}" if config is None else f"{_lora(config)} on {_base(publication)}"
    version = training.provenance["code"]
    title = f"{run.method.upper()} on {run.dataset}, n = {run.n}, β = {plain(run.beta)}, seed {run.seed}"
    others = [f"`{key}` = {json.dumps(value)}" for key, value in run.record()["settings"].items()]
    models = [_model(publication, role) for role in ("generator", "reward")]
    trained = [
        f"- data: {_data(publication, run.dataset)}; {training.groups} prompts were trained on",
        f"- responses: {run.n} to a prompt, of which the loss read {training.responses}; written by {models[0]}, "
        f"scored by {models[1]}",
        f"- steps: {settings['epochs']} epochs in batches of {settings['batch_size']} prompts, learning rate "
        f"{plain(float(settings['learning_rate']))}, β = {plain(run.beta)}, seed {run.seed}",
        *([f"- unlike the other policies: {', '.join(others)}"] if others else []),
    ]
    notes = [
        *world_note(publication.config["world"]),
        f"{what}, trained with {run.method.upper()} by HPS-Replica (version {version}), a replication of {PAPER}.",
        "\n".join(["## Trained on", "", *trained]),
    ]
    tables = list(_rows_of(publication, run))
    rows = (
        f"A row is the mean over training seeds, of which this policy is one; in brackets: {CONFIDENCE:.0%} intervals."
    )
    legend = [
        rows if tables else "No table has a row of this policy: it is part of effects (Table A) or of none.",
        "## Load",
        _loading(publication, run, config is not None),
        *_base_section(publication, version),
        *_licence(publication, [run.dataset]),
    ]
    relation = {"base_model_relation": "finetune" if config is None else "adapter"} if publication.on_the_hub else {}
    data = publication.metadata(
        [run.dataset],
        library_name="transformers" if config is None else "peft",
        tags=["hps-replica", run.parameterization, run.loss],
        **relation,
    )
    return _card(data, Page(title, tables, notes, legend))


def repository_card(publication: Publication, trainings: Sequence[Training]) -> str:
    """The card of the repository: what is in it."""
    runs = [training.run for training in trainings]
    version = trainings[0].provenance["code"]
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    columns = [Column("Policy"), Column("Trained on"), *(Column(name, numeric=True) for name in ("n", "β", "Seed"))]
    rows = [
        [
            Cell(f"[{run.row.upper() if not run.settings else run.row}](runs/{run.name})"),
            Cell(run.dataset),
            *(Cell(plain(value)) for value in (run.n, run.beta, run.seed)),
        ]
        for run in runs
    ]
    notes = [
        *world_note(publication.config["world"]),
        f"Policies trained on {_base(publication)} by HPS-Replica (version {version}, preset "
        f"{publication.config['preset']}, protocol {publication.config['protocol']}), a replication of {PAPER}.",
        "`report.html` has what was found, the configuration and the versions, `tables/` each table as CSV, "
        "Markdown, LaTeX and HTML. Each policy's folder has a card: what it was trained on, its rows of the tables, "
        "how to load it.",
    ]
    legend = [*_base_section(publication, version), *_licence(publication, datasets)]
    data = publication.metadata(datasets, tags=["hps-replica"])
    return _card(data, Page(f"HPS-Replica: {len(runs)} policies", [Table(columns, rows, "Policies")], notes, legend))


def adapter_config(publication: Publication, policy: Path) -> dict[str, Any] | None:
    """What a policy's adapter says of itself; None for a fully trained policy.

    Raises InputError when it is on another base than the publication's.
    """
    if not (policy / ADAPTER).is_file():
        return None
    config = read_json(policy / ADAPTER)
    if publication.on_the_hub:
        named = (config.get("base_model_name_or_path"), config.get("revision"))
        expected = (publication.base["repo"], publication.base["commit"])
        if named != expected:
            raise InputError(policy / ADAPTER, "its base is {} at {}, not {} at {}".format(*named, *expected))
    return config


def _card(data: ModelCardData, page: Page) -> str:
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{markdown(page)}"))


def _rows_of(publication: Publication, run: Run) -> Iterator[Table]:
    """The run's rows of each table that has some."""
    for spec, rows in publication.tables:
        names = [name for name in spec.metrics if name in METRICS]
        columns = [Column(spec.label), *(Column(METRICS[name].title, numeric=True) for name in names)]
        columns += [Column("Prompts", numeric=True), Column("Seeds")]
        own = [
            [
                Cell(row[spec.column]),
                *(interval(*(number(row, f"{name}{end}", spec.name) for end in ("", "_lo", "_hi"))) for name in names),
                Cell(row["prompts"]),
                Cell(row["seeds"].replace(" ", ", ")),
            ]
            for row in rows
            if _is_of(row, run)
        ]
        if own:
            yield Table(columns, own, spec.title)


def _is_of(row: Row, run: Run) -> bool:
    """Whether a table's row has this run among its seeds."""
    if not row["trained_on"]:  # the policy before training
        return False
    found = Run(
        row["trained_on"], *row["method"].split(" ")[0].split("-"), int(row["run_n"]), float(row["run_beta"]), 0
    )
    same = replace(run, seed=0, settings=()) == found and json.loads(row["run_settings"]) == run.record()["settings"]
    return same and str(run.seed) in row["seeds"].split()


def _sources(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that the training prompts were drawn from."""
    return counts["parts"][counts["splits"]["train"]["part"]]["sources"]


def _data(publication: Publication, dataset: str) -> str:
    """The data set and where it comes from; of files on this machine their names and hashes, not where they lie."""
    sources = _sources(publication.counts[dataset])
    if publication.config["world"] == "toy":
        return f"`{dataset}` of the toy world, synthetic text in the form of that data set"
    commits = dict.fromkeys((one["hub"], one["commit"]) for one in sources if "hub" in one)
    named = [f"`{hub}` at commit {commit}" for hub, commit in commits]
    named += [f"{Path(one['path']).name} (SHA-256 {one['sha256']})" for one in sources if "path" in one]
    return f"`{dataset}`, from {', '.join(named)}"


def _model(publication: Publication, role: str) -> str:
    given = publication.config[f"models.{role}"]
    return f"`{given['repo']}`" if given["source"] == "hub" else f"a model of this run ({given['source']})"


def _base(publication: Publication) -> str:
    if publication.on_the_hub:
        return f"`{publication.base['repo']}` at commit {publication.base['commit']}"
    return "a base that is from no hub"


def _lora(config: Mapping[str, Any]) -> str:
    targets = config["target_modules"]
    on = targets if isinstance(targets, str) else ", ".join(sorted(targets))
    return f"A LoRA adapter (rank {config['r']}, alpha {config['lora_alpha']}, on {on})"


def _loading(publication: Publication, run: Run, adapter: bool) -> str:
    """Python that loads a policy."""
    revision = f', revision="{publication.base["commit"]}"' if publication.on_the_hub else ""
    base, here = f'"{publication.base_name}"{revision}', f'"{publication.repo}", subfolder="runs/{run.name}"'
    policy = f'model = AutoModelForCausalLM.from_pretrained({base if adapter else here}, dtype="auto")'
    return "\n".join(
        [
            "```python",
            *(["from peft import PeftModel"] if adapter else []),
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({base if adapter else here})",
            policy,
            *([f"model = PeftModel.from_pretrained(model, {here})"] if adapter else []),
            "```",
        ]
    )


def _base_section(publication: Publication, version: str) -> list[str]:
    """How to make a base that is from no hub, and how to know it."""
    if publication.on_the_hub:
        return []
    base, config = publication.base, publication.config
    origin = {
        "gguf": "the file `{file}` of the Python package {package} {version}, which must be installed",
        "path": "a folder of whoever published this, who alone has it",
        "scratch": "nothing: it is trained from scratch on synthetic text",
    }[base["source"]].format(**base)
    words = [f"{key}={config[key]}" for key in ("preset", "protocol", "name") if config[key]]
    hashes = "; ".join(f"{name} {value}" for name, value in base["files"].items() if name.endswith(".safetensors"))
    return [
        "## The base",
        f"The policy before training is from no hub. HPS-Replica at version {version} makes it, with the configuration "
        f"that `report.html` shows, in `{publication.base_folder}`, from {origin}:",
        f"```\nsnakemake --cores 1 {publication.base_folder} --config {' '.join(words)}\n```",
        f"Its weights have the SHA-256 {hashes}.",
    ]


def _licence(publication: Publication, datasets: Sequence[str]) -> list[str]:
    sources = [source for name in datasets for source in _sources(publication.counts[name])]
    pages = list(dict.fromkeys(f"https://huggingface.co/datasets/{one['hub']}" for one in sources if "hub" in one))
    if publication.on_the_hub:
        pages.insert(0, f"https://huggingface.co/{publication.base['repo']}")
    own = f"`{publication.license}`" if publication.license else "None is stated"
    beside = f" The licences of base and data hold beside it: {', '.join(pages)}." if pages else ""
    return ["## Licence", f"{own}.{beside}"]
