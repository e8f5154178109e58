"""Everything that a training (`train`) or scoring (`score`) job does beside computing, and ends; timed from outside.

    python benchmarks/startup.py train MODEL_FOLDER

Imports, records and hashes, a Parquet file written and read, tokenizer and model loaded, one group computed. With the
folder of a tiny model the computing itself takes no time.
"""

import gc
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("workflow_scripts", "")]
gc.set_threshold(100_000)  # as hps.cli does


def main(job: str, folder: str) -> None:
    import torch

    from hps import chat, provenance
    from hps.files import read_table, write_table
    from hps.logprobs import Group, SequenceScorer
    from hps.models.sources import load_causal, load_tokenizer
    from hps.schemas import PAIRS

    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "pairs.parquet"
        messages = [{"role": "user", "content": "how do i bake"}]
        row = {"prompt_id": "0", "messages": messages, "chosen": "mix flour", "rejected": "mix water"}
        write_table(path, [row], PAIRS)
        provenance.collect({}, [path, folder])
        (row,) = read_table(path, PAIRS.names)
    tokenizer = load_tokenizer(folder)
    responses = [chat.response_ids(tokenizer, row[reply]) for reply in ("chosen", "rejected")]
    group = Group(chat.prompt_ids(tokenizer, row["messages"]), responses)
    if job == "score":
        SequenceScorer(load_causal(folder, dtype=torch.float32, device="cpu"), 1000).score([group])
        return
    import hps.checkpoints
    from benchmarks import ours

    model = ours.policy(Path(folder), torch.float32, "cpu")
    ours.Steps(ours.trainer(model, "bt", ours.examples([group] * 2), 1, 1000))(0)
    print(hps.checkpoints.__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
