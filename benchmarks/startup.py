"""What a training (`train`) or scoring (`score`) job does beside computing; timed from outside.

    python benchmarks/startup.py train MODEL_FOLDER PAIRS

Imports, records and hashes, a Parquet file read (and by `score` one written), tokenizer and model loaded, one group
computed. With the folder of a tiny model the computing itself takes no time. Prints the time of day at which it began
to compute.
"""

import gc
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("workflow_scripts", "")]
gc.set_threshold(100_000)  # as hps.support.cli does


def write_pairs(path: Path) -> None:
    """A file to read: one pair."""
    from hps.data.schemas import PAIRS
    from hps.support.files import write_table

    messages = [{"role": "user", "content": "how do i bake"}]
    row = {"prompt_id": "0", "messages": messages, "chosen": "mix flour", "rejected": "mix water"}
    write_table(path, [row], PAIRS)


def main(job: str, folder: str, pairs: str) -> None:
    import torch

    from hps.data import chat
    from hps.data.schemas import PAIRS
    from hps.logprobs.scorer import Group, SequenceScorer
    from hps.models.sources import load_causal, load_tokenizer
    from hps.support import provenance
    from hps.support.files import read_table

    (row,) = read_table(Path(pairs), PAIRS.names)
    provenance.collect({}, [Path(pairs), folder])
    tokenizer = load_tokenizer(folder)
    responses = [chat.response_ids(tokenizer, row[reply]) for reply in ("chosen", "rejected")]
    group = Group(chat.prompt_ids(tokenizer, row["messages"]), responses)
    if job == "score":
        scorer = SequenceScorer(load_causal(folder, dtype=torch.float32, device="cpu"), 1000)
        print(time.time())
        scorer.score([group])
        write_pairs(Path(pairs).with_name("scored.parquet"))
        return
    import hps.training.checkpoints  # noqa: F401  (a training job's)
    from benchmarks import ours

    model = ours.policy(Path(folder), torch.float32, "cpu")
    steps = ours.Steps(ours.trainer(model, "bt", ours.examples([group] * 2), 1, 1000))
    print(time.time())
    steps(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
