"""What a configured run will cost before anything is submitted: time, memory and disk, stage by stage.

Pure arithmetic on the configuration, token counts and measured rates; docs/plan.md has the formulas. Times of a job are

    start-up + bytes of weights / LOADING + operations / rate

with the operations of `hps.planning.operations` and the rates of benchmarks/results (`hps.planning.rates`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from hps.method.losses import responses_used
from hps.planning.judge import SERVERS_GPUS, judging
from hps.planning.judge import weights as judge_weights
from hps.planning.memory import ITEMSIZE, Memory
from hps.planning.operations import Architecture, Work, decoding_work, plain_work, reading_work, shared_work
from hps.planning.rates import WARM_START_UP, Rates
from hps.planning.stages import CostEstimate, Data, Lengths, Stage, Volume
from hps.runs import Run
from hps.workflow.config import Config, pair_splits
from hps.workflow.pipeline import Pipeline, policy_dtype, sampled_prompts

LOADING = 1e9
"""Bytes a second at which weights come from disk into memory."""
SMALL_JOB = 4.0
"""Seconds of a job that computes with no model: data, tables, figures."""
TEXT = 4.2
"""Bytes of text a token."""
READING = 3e4
"""Responses a second, of 250 tokens each, that a training reads with rewards, log-probs and token ids (measured)."""


@dataclass(frozen=True)
class Planner:
    """The estimate of one configuration.

    Args:
        data: by name, the data sets of the grid.
        models: by role, the sizes of the models.
    """

    config: Config
    data: dict[str, Data]
    models: dict[str, Architecture]
    rates: Rates

    def estimate(self) -> CostEstimate:
        stages = [self.downloads(), *self.model_stages(), *self.shard_stages(), self.training(), self.evaluation()]
        judge, said = self.judge()
        stages += [judge, self.tables()]
        said += ["published: counted as whole models; adapters are far smaller"] if self.pipeline.published else []
        assumptions = [*self.rates.assumptions, *(f"{name}: {data.source}" for name, data in self.data.items()), *said]
        return CostEstimate([stage for stage in stages if stage.jobs], self.config["plan"]["devices"], assumptions)

    # --- pieces ------------------------------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        return Memory(self.config, self.rates.gpu)

    @property
    def dtype(self) -> str:
        return self.config["compute"]["dtype"]

    @property
    def recomputes(self) -> bool:
        """Whether training computes activations again instead of keeping them."""
        return self.config["compute"]["activation_checkpointing"]

    @property
    def continuous(self) -> bool:
        """Whether a reply that ends makes room for the next one at once (vLLM)."""
        return self.config["compute"]["generation"] == "vllm"

    @property
    def full(self) -> bool:
        return self.config["training"]["adapter"] == "full"

    @property
    def policy_dtype(self) -> str:
        return policy_dtype(self.config)

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.config)

    def weights(self, role: str, dtype: str | None = None) -> float:
        return self.models[role].parameters * ITEMSIZE[dtype or self.dtype]

    def start(self, job: str, *roles: str) -> float:
        """Seconds before a job begins to compute: its imports, and the weights of these models."""
        warm = self.rates.is_cpu and self.config["compute"]["warm_jobs"]
        return (WARM_START_UP if warm else self.rates.start_up[job]) + sum(
            self.weights(role) for role in roles
        ) / LOADING

    def usable(self, data: Data, limit: int) -> float:
        """Mean tokens of a generated reply as training and scoring see it, its EOS included."""
        return max(2.0, data.lengths.kept(limit))

    # --- data and models ---------------------------------------------------------------------------------------

    def downloads(self) -> Stage:
        stage = Stage("download")
        for name, data in self.data.items():
            prompts = sum(data.prompts.values())
            tokens = prompts * (data.lengths.prompt + 2 * data.lengths.human)
            volumes = {name: Volume(prompts=prompts, responses=2 * prompts)}
            stage = stage.with_job(SMALL_JOB, disk=tokens * TEXT / 2, volumes=volumes)
        return stage

    def model_stages(self) -> list[Stage]:
        fetched, scratch, trained = Stage("fetch_model"), Stage("scratch_model"), Stage("reward_model")
        for role, given in self.config["models"].items():
            if role not in self.models:
                continue
            disk = self.weights(role)
            if given["source"] == "scratch":
                replies = 2 if given["replies"] == "both" else 1
                work, volumes = self._human("trained", ["sft"], replies, given["epochs"])
                seconds = self._fitting(role, work, full=True)
                scratch = scratch.with_job(
                    self.start("score") + seconds,
                    self.memory.training(self.models[role], 4096, self.models[role].parameters),
                    disk,
                    volumes=volumes,
                )
            elif given["source"] == "trained":
                work, volumes = self._human("trained", pair_splits(given), 2, given["epochs"])
                work = replace(work, counted=0)
                model = self.models[role]
                layers = given["lora_layers"] / model.layers if given["lora_layers"] else 1.0
                seconds = self._fitting(role, work, full=given["lora_rank"] == 0, layers=layers)
                memory = self.memory.training(model, 4096, self._adapter(model, given["lora_rank"]))
                trained = trained.with_job(self.start("score", role) + seconds, memory, disk, volumes=volumes)
            elif given["source"] == "probe":
                work, volumes = self._human("read", pair_splits(given), 2)
                model = self.models[role]
                flops = model.forward_flops(replace(work, counted=0))
                seconds = flops / self.rates.flops("score", model, self.dtype)
                memory = self.memory.scoring(model, self.dtype)
                trained = trained.with_job(self.start("score", role) + seconds, memory, disk, volumes=volumes)
            else:
                links = given["source"] == "path"
                fetched = fetched.with_job(SMALL_JOB + (0 if links else disk / LOADING), disk=0 if links else disk)
        disk = self.weights("policy")
        for _ in self.pipeline.published:
            fetched = fetched.with_job(SMALL_JOB + disk / LOADING, disk=disk)
        return [fetched, scratch, trained]

    def _human(
        self, kind: str, splits: Iterable[str], replies: int, epochs: float = 1
    ) -> tuple[Work, dict[str, Volume]]:
        """Work on whole human conversations of these splits of all data sets, and its volumes.

        Args:
            kind: which tokens of a volume they are, `read` or `trained`.
        """
        total, volumes = Work(), {}
        for name, data in self.data.items():
            prompts = sum(data.prompts[split] for split in splits)
            work = plain_work(data.lengths.prompt, [data.lengths.human] * replies) * prompts * epochs
            total += work
            volumes[name] = Volume(prompts=prompts, responses=prompts * replies, **{kind: work.tokens})
        return total, volumes

    def _fitting(self, role: str, work: Work, *, full: bool, layers: float = 1.0) -> float:
        """Seconds of training on whole sequences, with the backward pass through this share of the layers."""
        architecture = self.models[role]
        forward = architecture.forward_flops(work)
        flops = forward + layers * (architecture.training_flops(work, full=full) - forward)
        return flops / self.rates.flops("train", architecture, "float32" if full else self.dtype)

    # --- what is computed once -----------------------------------------------------------------------------------

    def shard_stages(self) -> list[Stage]:
        augment = Stage("augment", devices=self.config["compute"]["tensor_parallel"])
        annotate, reference = Stage("annotate"), Stage("reference")
        compute, limit = self.config["compute"], self.config["candidates"]["max_new_tokens"]
        generator, reward, policy = (self.models[role] for role in ("generator", "reward", "policy"))
        for name, data in self.data.items():
            reply = self.usable(data, limit)
            for split, shards in compute["shards"].items():
                n = self.pipeline.candidates(name, split)
                prompts = data.prompts[split] / shards
                replies = [reply] * n + [data.lengths.human] * 2
                seconds, sampled = self.generating(generator, self.dtype, data.lengths, prompts, n, limit)
                size = prompts * sum(replies)
                shared = shared_work(data.lengths.prompt, replies) * prompts
                plain = plain_work(data.lengths.prompt, replies) * prompts
                rewards = [
                    reward.forward_flops(replace(work, counted=0)) / self.rates.flops("annotate", reward, self.dtype)
                    for work in (shared, plain)
                ]
                scoring = policy.forward_flops(shared) / self.rates.flops("score", policy, self.policy_dtype)
                responses = prompts * len(replies)
                scored = {name: Volume(prompts=prompts, responses=responses, read=shared.tokens)}
                for _ in range(shards):
                    augment = augment.with_job(
                        self.start("score", "generator") + seconds,
                        self.memory.generating(generator, self.dtype, data.lengths.prompt + limit),
                        size * TEXT / 2,
                        volumes={name: sampled},
                    )
                    start = self.start("score", "reward")
                    memory = self.memory.scoring(reward, self.dtype)
                    annotate = annotate.with_job(start + rewards[0], memory, responses * 20, start + rewards[1], scored)
                    start = self.start("score", "policy")
                    # Paper-style training computes the reference in its own steps, so it has no such stage.
                    reference = reference.with_job(
                        start + responses / self.rates.responses + scoring,
                        self.memory.scoring(policy, self.policy_dtype),
                        responses * 20 + size * TEXT / 2,  # token ids take what packed text takes
                        volumes=scored,
                    )
        return [augment, annotate, replace(reference, paper_style=0.0)]

    def generating(
        self, model: Architecture, dtype: str, lengths: Lengths, prompts: float, n: int, limit: int
    ) -> tuple[float, Volume]:
        """Seconds to sample n replies to each of some prompts, `sequences` at a time, and what they process.

        A batch goes on to its longest end, unless ended replies make room for the next.
        """
        if not prompts:
            return 0.0, Volume()
        together = min(self.config["compute"]["sequences"], max(1, round(prompts * n)))
        steps = lengths.kept(limit) if self.continuous else lengths.steps(limit, together)
        reading, decoding = reading_work(lengths.prompt, prompts), decoding_work(lengths.prompt, steps, prompts * n)
        batches = prompts * n / together
        context = lengths.prompt + steps / 2
        seconds = self.rates.generating(
            model, dtype, reading + decoding, together, steps * batches, context, self.continuous
        )
        volume = Volume(prompts=prompts, responses=prompts * n, read=reading.tokens, generated=decoding.tokens)
        return seconds, volume

    # --- training ------------------------------------------------------------------------------------------------

    def training(self) -> Stage:
        stage = Stage("train", devices=self.config["compute"]["processes"])
        policy = self.models["policy"]
        for run in self.pipeline.runs.values():
            seconds, paper, volume = self.run_cost(run)
            trained = self._trainable(run)
            memory = self.memory.training(policy, self.config["compute"]["train_tokens"], trained)
            # An adapter or a model, in float32.
            stage = stage.with_job(seconds, memory, 4 * trained, paper, {run.dataset: volume})
        return stage

    def run_cost(self, run: Run) -> tuple[float, float, Volume]:
        """Wall seconds of one training; of the same without sharing and with the reference in every step; its volume.

        Tokens are trained on once in each epoch, whatever further forward passes that takes.
        """
        compute, policy = self.config["compute"], self.models["policy"]
        training = self.config.under(run)["training"]
        data = self.data[run.dataset]
        prompts = data.prompts["train"]
        reply = self.usable(data, self.config["candidates"]["max_new_tokens"])
        replies = [reply] * responses_used(run.loss, self.pipeline.pool(run))
        group = data.lengths.prompt + sum(replies)
        two_passes = group > compute["train_tokens"]
        visits = training["epochs"] * prompts / compute["processes"]
        kind = "train_group" if len(replies) > 2 else "train"
        rate = self.rates.flops(kind, policy, self.policy_dtype)
        work = shared_work(data.lengths.prompt, replies) * visits
        flops = policy.training_flops(work, full=self.full, forwards=1 + two_passes + self.recomputes)
        plain = plain_work(data.lengths.prompt, replies, all_logits=True) * visits
        paper = policy.training_flops(plain, full=self.full, forwards=1 + self.recomputes) + policy.forward_flops(plain)
        start = self.start("train", "policy") + (self.rates.start_up["launcher"] if compute["processes"] > 1 else 0)
        read = prompts * (self.pipeline.candidates(run.dataset, "train") + 2) / READING
        volume = Volume(prompts=prompts, responses=prompts * len(replies), trained=work.tokens * compute["processes"])
        return start + read + flops / rate, start + read + paper / rate, volume

    def _adapter(self, model: Architecture, rank: int) -> int:
        """Trained parameters of a reward model: an adapter on queries and values of all layers, or, rank 0, all."""
        return model.lora_parameters(rank, ["q_proj", "v_proj"]) if rank else model.parameters

    def _trainable(self, run: Run) -> int:
        policy, training = self.models["policy"], self.config.under(run)["training"]
        return (
            policy.parameters if self.full else policy.lora_parameters(training["lora_rank"], training["lora_targets"])
        )

    # --- evaluation ----------------------------------------------------------------------------------------------

    def evaluation(self) -> Stage:
        stage = Stage("evaluate")
        policy = self.models["policy"]
        one_each = [[name] for name in [*self.pipeline.sft, *self.pipeline.runs, *self.pipeline.of_others]]
        several = self.config["compute"]["policies_per_job"] > 1
        for job in self.pipeline.evaluation_jobs.values() if several else one_each:
            seconds = self.start("train", "policy", *self.scorers)  # adapters and all models
            disk, volumes = 0.0, dict.fromkeys(self.data, Volume())
            # One model after another is in memory.
            memories = [self.memory.scoring(self.models[role], self.dtype) for role in self.scorers]
            trained = [name for name in job if name not in self.pipeline.sft]
            seconds += sum(self.weights("policy") / LOADING for name in job if name in self.pipeline.of_others)
            for test_set in {one for name in trained for one in self.pipeline.test_sets(name)}:
                own, volume = self.reference_cost(self.data[test_set])
                seconds += own
                volumes[test_set] += volume
            for policy_name, test_set in [(name, one) for name in job for one in self.pipeline.test_sets(name)]:
                data, limit = self.data[test_set], self._evaluation_limit()
                own, volume = self.test_cost(data, policy_name in trained)
                seconds += own
                volumes[test_set] += volume
                prompts = data.prompts["test"]
                sampled = sampled_prompts(self.config, prompts)
                disk += sampled * self.config["evaluation"]["samples"] * self.usable(data, limit) * TEXT / 2
                memories += [
                    self.memory.generating(policy, self.policy_dtype, data.lengths.prompt + limit),
                    self.memory.comparing(policy, self.policy_dtype, prompts * data.lengths.human),
                ]
            read = {name: volume for name, volume in volumes.items() if volume.prompts}
            stage = stage.with_job(seconds, max(memories), disk, volumes=read)
        return stage

    @property
    def scorers(self) -> list[str]:
        """The roles that score what a policy answers to test prompts."""
        return [role for role in ("eval_reward", "harm") if role in self.models]

    def test_cost(self, data: Data, trained: bool) -> tuple[float, Volume]:
        """Seconds to evaluate one policy on one test set, and what that processes: samples, rewards, margins and KL."""
        evaluation = self.config["evaluation"]
        policy = self.models["policy"]
        prompts, limit = data.prompts["test"], self._evaluation_limit()
        sampled = sampled_prompts(self.config, prompts)
        reply = self.usable(data, limit)
        seconds, volume = self.generating(
            policy, self.policy_dtype, data.lengths, sampled, evaluation["samples"], limit
        )
        volume = replace(volume, prompts=prompts)
        judged = replace(shared_work(data.lengths.prompt, [reply] * evaluation["samples"]), counted=0) * sampled
        for reward in (self.models[role] for role in self.scorers):
            seconds += reward.forward_flops(judged) / self.rates.flops("annotate", reward, self.dtype)
            volume += Volume(read=judged.tokens)
        if trained:
            # The human pair and the annotated pair; the KL needs the head once more for the chosen reply.
            pairs = shared_work(data.lengths.prompt, [data.lengths.human] * 2 + [reply] * 2)
            work = replace(pairs, counted=pairs.counted + data.lengths.human) * prompts
            seconds += policy.forward_flops(work) / self.rates.flops("score", policy, self.policy_dtype)
            volume += Volume(read=work.tokens)
        read = prompts * (self.config["candidates"]["n_test"] + 2) / self.rates.responses
        return seconds + read, volume

    def reference_cost(self, data: Data) -> tuple[float, Volume]:
        """Seconds and volume of what the KL on one test set needs of the reference: once for all policies of a job."""
        policy = self.models["policy"]
        work = shared_work(data.lengths.prompt, [data.lengths.human]) * data.prompts["test"]
        seconds = policy.forward_flops(work) / self.rates.flops("score", policy, self.policy_dtype)
        return seconds, Volume(read=work.tokens)

    def _evaluation_limit(self) -> int:
        return self.config["evaluation"]["max_new_tokens"]

    # --- what reads the results ------------------------------------------------------------------------------------

    def judge(self) -> tuple[Stage, list[str]]:
        """The node that serves the judge of Table 4, where it is one of ours; and what is asked of any judge."""
        stage = Stage("judge")
        if self.config["judge"]["source"] != "openai":
            return stage.with_job(SMALL_JOB), []
        replies = {name: self.usable(data, self._evaluation_limit()) for name, data in self.data.items()}
        asked = judging(self.config, self.data, replies)
        said = f"judge: {asked.requests:,} requests, {asked.tokens / 1e6:.1f} million tokens"
        if asked.requests > self.config["judge"]["max_requests"]:
            said += f", more than judge.max_requests ({self.config['judge']['max_requests']:,})"
        model = self.models.get("judge")
        if model is None:
            return stage, [f"{said}, to an endpoint that is not counted below"]
        stage = replace(stage, devices=SERVERS_GPUS)
        disk = judge_weights(model)
        seconds = disk / LOADING + asked.seconds(model, self.rates)
        stage = stage.with_job(seconds, asked.memory(model), disk, volumes=asked.volumes)
        return stage, [f"{said}, to slurm/serve_judge.sh"]

    def tables(self) -> Stage:
        stage = Stage("tables, figures, report")
        for _ in range(10):
            stage = stage.with_job(SMALL_JOB)
        return stage
