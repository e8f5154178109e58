"""What the rules and the plan ask of a configuration: folders, settings of stages, data, models, test sets.

Nothing here needs Snakemake. Paths are relative to the repository's root.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hps.method.losses import pool_size
from hps.models import hub_lock
from hps.runs import Run
from hps.support.settings import DATASET, MODEL_KEYS, TAKES, options, schema, settings
from hps.workflow.config import Config, accelerate_file, data_dir, leaves
from hps.workflow.grid import all_runs, attribution_runs, beta_runs, grid_runs, judged_runs, n_runs

SPLITS = ("train", "test", "reward", "eval_reward", "sft")
ENTRIES = ("model.", "dataset.", "policy.")
POLICY_STAGES = ("reference", "train", "evaluate")


@dataclass(frozen=True)
class Pipeline:
    """The questions, for one configuration."""

    config: Config

    # --- folders -------------------------------------------------------------------------------------------------

    @cached_property
    def results(self) -> str:
        """The folder of all that is made. The paper's own protocol is the default and needs no name."""
        protocol = "" if self.config["protocol"] == "paper" else f"-{self.config['protocol']}"
        return f"results/{self.config['name'] or self.config['preset'] + protocol}"

    def model(self, role: str) -> str:
        """The folder of a role's model, wherever it comes from."""
        return f"{self.results}/models/{role}"

    def evaluation(self, policy: str, test_set: str) -> str:
        return f"{self.results}/evaluations/{policy}/{test_set}"

    # --- settings ------------------------------------------------------------------------------------------------

    def settings(self, command: str, run: Run | None = None, entry: Mapping[str, Any] | None = None) -> str:
        """What the command takes of the configuration and its results depend on, as options; as `run` has it.

        Args:
            entry: the model or published policy that the command is about.
        """
        return options(self._taken(command, run, entry or {}, cost=False))

    def cost(self, command: str) -> str:
        """What else it takes: settings that change its memory or its time alone.

        For a rule's resources: a change of its parameters would make again what is there.
        """
        return options(self._taken(command, None, {}, cost=True))

    def _taken(self, command: str, run: Run | None, entry: Mapping[str, Any], *, cost: bool) -> dict[str, Any]:
        config = self.config if run is None else self.config.under(run)
        taken = {
            one.name: entry.get(one.name) if one.key.startswith(ENTRIES) else config.at(one.key)
            for one in settings(*TAKES[command])
            if one.cost is cost
        }
        if command in POLICY_STAGES and not cost:
            taken["dtype"] = policy_dtype(config)
        return taken

    @cached_property
    def values(self) -> str:
        """All values that a result may depend on, as JSON."""
        cost = {one.key for one in settings(*schema()["properties"]) if one.cost}
        return json.dumps({key: value for key, value in leaves(self.config.values) if key not in cost})

    def launcher(self) -> str:
        """The command that starts a training. One process needs no launcher, whose start takes half as long again."""
        if self.config["compute"]["processes"] == 1:
            return "python"
        return f"python -m accelerate.commands.launch --config_file {accelerate_file(self.config)}"

    # --- data ----------------------------------------------------------------------------------------------------

    @cached_property
    def toy(self) -> bool:
        return self.config["world"] == "toy"

    @cached_property
    def data_dir(self) -> str:
        """Where the data files lie; empty: they come from the hub."""
        return f"{self.results}/data/raw" if self.toy else data_dir(self.config)

    def data_files(self, dataset: str, part: str) -> list[str]:
        """A data set's files for `train` or `test`; none when it comes from the hub."""
        files = self.config["data"][dataset]["files"][part] if self.data_dir else []
        return [f"{self.data_dir}/{file}" for file in files]

    def data_source(self, dataset: str) -> str:
        """Options that say where a data set comes from."""
        source = self.config["data"][dataset]
        if self.data_dir:
            files = {f"{part}_files": self.data_files(dataset, part) or None for part in ("train", "test")}
            source = {key: value for key, value in source.items() if not key.startswith("hub")}
        else:
            files = {f"hub_{part}_files": names or None for part, names in source["hub_files"].items()}
        return options(files | {one.name: source.get(one.name) for one in settings(*DATASET)})

    # --- hub and models --------------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> dict[str, Mapping[str, Any]]:
        """By role, where each model comes from that a job uses."""
        return {
            role: {key: given[key] for key in ("source", *MODEL_KEYS[given["source"]])}
            for role, given in self.config["models"].items()
            if role != "tokenizer"
        }

    @cached_property
    def sources(self) -> dict[str, Mapping[str, Any]]:
        """The same, and the judge's where one of ours serves it: only `fetch` asks for it, jobs talk to its server."""
        hub = self.config["judge"]["hub"]
        return self.models | ({"judge": {"source": "hub", **hub}} if hub and judged_runs(self.config) else {})

    def models_from_elsewhere(self, *roles: str) -> list[str]:
        """Folders of those roles whose model is made elsewhere, and whose chat template may refuse a prompt."""
        elsewhere = {role for role, given in self.models.items() if given["source"] in ("hub", "path", "gguf")}
        return [self.model(role) for role in roles if role in elsewhere]

    def model_state(self, role: str) -> list[tuple[str, int, int]]:
        """Name, size and time of each file of a model of `source: path`: one overwritten in place is fetched anew.

        Its contents are hashed then; to hash them at every start would take minutes.
        """
        given = self.sources[role]
        patterns = hub_lock.MODEL_FILES if given["source"] == "path" else ()
        files = {file for pattern in patterns for file in Path(given["path"]).glob(pattern) if file.is_file()}
        return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]

    def roles_from(self, *sources: str) -> str:
        """A wildcard constraint: the roles whose model comes from one of these sources (none: matches nothing)."""
        return "|".join(role for role, given in self.sources.items() if given["source"] in sources) or "(?!)"

    def targets(self, role: str) -> str:
        """Of the policy, the modules that adapters will go to, as options."""
        training = self.config["training"]
        adapted = role == "policy" and training["adapter"] == "lora"
        return options({"lora_targets": training["lora_targets"] if adapted else None})

    @cached_property
    def tokenizer(self) -> str:
        """A folder with the policy's tokenizer: that of the policy, but for a policy from scratch, which is trained."""
        return self.model("tokenizer" if self.models["policy"]["source"] == "scratch" else "policy")

    @cached_property
    def wanted(self) -> list[hub_lock.Wanted]:
        """What the hub is asked for: data where no folder has them, the judge's model where a policy is judged."""
        return hub_lock.wanted(self.config, data=not self.data_dir, judge=bool(judged_runs(self.config)))

    # --- runs ------------------------------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every training by name; ablations are among them, so no run is trained twice."""
        return {run.name: run for run in all_runs(self.config)}

    @cached_property
    def sft(self) -> dict[str, int]:
        """The SFT policy as it is evaluated: once with each seed of the runs, which share its random numbers."""
        return {f"sft_seed~{seed}": seed for seed in dict.fromkeys(run.seed for run in self.runs.values())}

    @cached_property
    def published(self) -> dict[str, Mapping[str, Any]]:
        """By name, the policies that others trained: where each is on the hub."""
        return {one["name"]: one for one in self.config["published"]}

    @cached_property
    def of_others(self) -> dict[str, tuple[str, int]]:
        """The same as they are evaluated, with name and seed: once with each seed, as the SFT policy is."""
        return {f"published~{name}_seed~{seed}": (name, seed) for name in self.published for seed in self.sft.values()}

    def weights(self, policy: str) -> str:
        """The folder with the adapter or model of a policy that is evaluated; empty for the SFT policy."""
        if policy in self.of_others:
            return f"{self.results}/published/{self.of_others[policy][0]}"
        return f"{self.results}/runs/{policy}/policy" if policy in self.runs else ""

    def policy(self, run: Run | None, seed: int) -> str:
        """The name of a policy that is evaluated: a run, or None for the SFT policy with that seed."""
        return run.name if run else f"sft_seed~{seed}"

    def evaluation_seed(self, policy: str) -> int:
        """A run is sampled with its own seed, which all methods share."""
        if policy in self.of_others:
            return self.of_others[policy][1]
        return self.sft[policy] if policy in self.sft else self.runs[policy].seed

    @cached_property
    def transfer(self) -> list[tuple[str, str]]:
        """Pairs of data sets: trained on the first, evaluated on the second."""
        given, sets = self.config["evaluation"]["transfer"], self.config["grid"]["datasets"]
        if isinstance(given, list):
            return [(trained, tested) for trained, tested in given]
        return [(one, other) for one in sets for other in sets if one != other and given]

    @cached_property
    def _transferred(self) -> set[Run]:
        return {*grid_runs(self.config), *n_runs(self.config)}

    def transfer_sets(self, run: Run) -> list[str]:
        """The other data sets that a run is evaluated on, if a table of transfer shows the run."""
        return [tested for trained, tested in self.transfer if trained == run.dataset and run in self._transferred]

    def test_sets(self, policy: str) -> list[str]:
        """All data sets that a policy is evaluated on, in one job; those without a run of ours are on all."""
        run = self.runs.get(policy)
        return [run.dataset, *self.transfer_sets(run)] if run else self.config["grid"]["datasets"]

    @cached_property
    def evaluation_jobs(self) -> dict[str, list[str]]:
        """The policies that are evaluated together, by rule; with one policy a job, the one rule for any policy.

        Policies of a job are of the same kind of table, so that a table asks for few that it does not show.
        """
        size = self.config["compute"]["policies_per_job"]
        if size == 1:
            return {"evaluate": ["{policy}"]}
        tables = (grid_runs, n_runs, beta_runs, attribution_runs, all_runs)
        kinds, placed = [list(self.sft)], set(self.sft)
        for runs_of in tables:
            kinds.append([run.name for run in dict.fromkeys(runs_of(self.config)) if run.name not in placed])
            placed.update(kinds[-1])
        kinds.append(list(self.of_others))
        jobs = [kind[first : first + size] for kind in kinds for first in range(0, len(kind), size)]
        return {f"evaluate_{number}": job for number, job in enumerate(jobs, start=1)}

    def candidates(self, dataset: str, split: str) -> int:
        """Responses that are generated for each prompt of a split."""
        given = self.config["candidates"]
        if split == "test":
            return given["n_test"]
        return given["n"] or max(run.n for run in self.runs.values() if run.dataset == dataset)

    def pool(self, run: Run) -> int:
        """Responses to a prompt that the run may use."""
        return pool_size(run.loss, run.n, self.config.under(run)["objective"]["pl_responses"])


def sampled_prompts(config: Config, prompts: int) -> int:
    """How many of so many test prompts the policies answer."""
    return min(prompts, config["evaluation"]["sampled_prompts"] or prompts)


def policy_dtype(config: Config) -> str:
    """Full fine-tuning trains float32 weights, so its reference and its evaluation are float32 too."""
    return "float32" if config["training"]["adapter"] == "full" else config["compute"]["dtype"]
