#!/bin/sh
# The judge of Table 4 on a whole node, for as long as this job lives (docs/judge.md, docs/cluster.md):
#
#   sbatch --partition=gpu slurm/serve_judge.sh [FOLDER [WORDS...]]
#
# FOLDER: what `snakemake --cores 1 fetch --config preset=paper` made of judge.hub; no network is needed here.
# WORDS: more of what `vllm serve` takes; there the last one counts, so they change what stands below.
# HPS_JUDGE_GPUS, HPS_JUDGE_PORT: how many devices share the model (4), and where the server listens (8000).
#
#SBATCH --job-name=serve_judge
#SBATCH --output=slurm/serve_judge.%j.log
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --gres=gpu:l40s:4
#SBATCH --cpus-per-task=16
#SBATCH --mem=192000
#SBATCH --time=1-00:00:00
folder=${1:-results/paper/models/judge}
[ $# -eq 0 ] || shift
port=${HPS_JUDGE_PORT:-8000}
if [ ! -f "$folder/model.json" ]; then
    echo "error: $folder: no fetched model; \`snakemake --cores 1 fetch\` (with its --config) downloads it" >&2
    exit 1
fi
# The name carries the commit: rule judge records it, and the server refuses requests for any other.
name='import json, sys; facts = json.load(open(sys.argv[1])); print(facts["repo"], facts["commit"], sep="@")'
if ! model=$(python3 -c "$name" "$folder/model.json" 2> /dev/null); then
    echo "error: $folder/model.json: names no repository and commit of the hub" >&2
    exit 1
fi
export HF_HUB_OFFLINE=1
echo "export HPS_JUDGE_URL=http://$(hostname):$port/v1 HPS_JUDGE_MODEL=$model HPS_JUDGE_KEY=none"
exec vllm serve "$folder" --served-model-name "$model" --tensor-parallel-size "${HPS_JUDGE_GPUS:-4}" \
    --max-model-len 16384 --gpu-memory-utilization 0.95 --port "$port" "$@"
