"""Imports what a training (`train`) or scoring (`score`) job imports, and ends: its start-up, to be timed from outside.

python benchmarks/startup.py score
"""

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))
gc.set_threshold(100_000)  # as hps.cli does


def main(job: str) -> None:
    if job == "train":
        import accelerate
        import peft

        import hps.checkpoints
        import hps.objectives
        import hps.preferences
        import hps.training

        accelerate.Accelerator(cpu=True)
        print(peft.__version__, hps.training.__name__)
    else:
        import hps.chat
        import hps.logprobs
        import hps.models.reward_model
        import hps.models.sources

        print(hps.logprobs.__name__)


if __name__ == "__main__":
    main(sys.argv[1])
