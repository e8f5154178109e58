"""Checkpoints of a training: beside its declared outputs, whole or absent, and only for the run that wrote them."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hps import sharding
from hps.files import read_json, write_json, writing

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Done:
    """How far a run has come, over all its attempts."""

    steps: int = 0
    seconds: float = 0.0  # in optimizer steps; start-up and lost work are not in it
    tokens: int = 0

    def after(self, *, step: int, seconds: float, tokens: int) -> Done:
        return Done(self.steps + step, self.seconds + seconds, self.tokens + tokens)


class Checkpoints:
    """The working folder of one run: its log, and the last checkpoint of parameters and AdamW moments.

    A checkpoint is used only by a run with the same `fingerprint` (settings and hashes of the inputs); one that
    another run left is ignored. Nothing is pickled.

    Args:
        part: which shard this process holds, where several share the model; all of them then save and load together.
    """

    def __init__(self, folder: str | Path, fingerprint: str, part: int | None = None):
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.saved = self.folder / "checkpoint"
        self.log_file = self.folder / "log.jsonl"
        self.part = part

    def load(self, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> Done:
        """Restore parameters and optimizer from the last checkpoint; returns how far it had come."""
        done = Done()
        if self.saved.is_dir():
            state = read_json(self.saved / "state.json")
            if state.pop("fingerprint") == self.fingerprint:
                done = Done(**state)
            else:
                logging.info("%s: of another configuration or other data, starting anew", self.saved)
        if done.steps:
            tensors = load_file(self.saved / self._file)
            with torch.no_grad():
                for name, parameter in parameters.items():
                    sharding.local(parameter).copy_(tensors[f"parameter/{name}"])
                    moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
                    for moment, value in moments.items():
                        sharding.local(value).copy_(tensors[f"{moment}/{name}"])
                    optimizer.state[parameter] = {"step": torch.tensor(float(done.steps)), **moments}
            logging.info("resuming after step %d", done.steps)
        return done

    def save(self, done: Done, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> None:
        """Replace the checkpoint by one of this moment."""
        tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            for moment in MOMENTS:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
        tensors = {name: sharding.local(tensor).contiguous() for name, tensor in tensors.items()}
        with writing(self.saved) if not self.part else nullcontext() as partial:
            if not self.part:
                partial.mkdir()
                write_json(partial / "state.json", asdict(done) | {"fingerprint": self.fingerprint})
            if self.part is not None:
                partial = sharding.from_first(partial)
            save_file(tensors, partial / self._file)
            if self.part is not None:
                sharding.wait()  # the folder gets its name when every part is in it

    @property
    def _file(self) -> str:
        return "state.safetensors" if self.part is None else f"state-{self.part}.safetensors"

    def log(self, row: dict) -> None:
        """Append one row to the run's log."""
        with self.log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    def remove(self) -> None:
        """Delete the working folder, once the run's outputs are in place."""
        shutil.rmtree(self.folder)

    def cut_log(self, steps: int) -> None:
        """Keep the log's rows up to the checkpoint; what came after it is done again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True) if self.log_file.exists() else []
        partial = self.log_file.with_suffix(".partial")
        partial.write_text("".join(lines[:steps]), encoding="utf-8")
        os.replace(partial, self.log_file)
