#!/bin/sh
# The judge of Table 4 on a whole node, for as long as this job lives (docs/judge.md, docs/cluster.md):
#
#   sbatch --partition=gpu slurm/serve_judge.sh
#
#SBATCH --job-name=serve_judge
#SBATCH --output=slurm/serve_judge.%j.log
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --gres=gpu:l40s:4
#SBATCH --cpus-per-task=16
#SBATCH --mem=192000
#SBATCH --time=1-00:00:00
model=Qwen/Qwen2.5-72B-Instruct
echo "export HPS_JUDGE_URL=http://$(hostname):8000/v1 HPS_JUDGE_MODEL=$model HPS_JUDGE_KEY=none"
exec vllm serve "$model" --tensor-parallel-size 4 --max-model-len 16384 --gpu-memory-utilization 0.95 --port 8000
