"""Checkpoints of a training: beside its declared outputs, whole or absent, and only for the run that wrote them."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hps.files import write_text, writing

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
    """The working folder of one run: the last checkpoint, and its log, for watching the run.

    A checkpoint is one file, replaced as a whole: parameters and AdamW moments, and in its header how far the run is,
    its log so far, and its `fingerprint` (settings and hashes of the inputs). Only a run with the same fingerprint
    uses it; one that another run left is ignored. Nothing is pickled.

    Two jobs that train the same run (after a lost scheduler, or on a node given up too early) may share the folder:
    they compute the same checkpoints, whichever stands there is whole, and neither needs what the other removes.
    """

    def __init__(self, folder: str | Path, fingerprint: str):
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.saved = self.folder / "checkpoint.safetensors"
        self.log_file = self.folder / "log.jsonl"
        self.rows: list[str] = []
        self.started = 0.0

    def load(self, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> Done:
        """Restore parameters, optimizer and log from the last checkpoint; returns how far it had come."""
        try:
            with safe_open(self.saved, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                if state.pop("fingerprint") != self.fingerprint:
                    logging.info("%s: of another configuration or other data, starting anew", self.saved)
                    return Done()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except FileNotFoundError:
            return Done()
        self.rows = state.pop("log")
        done = Done(**state)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(done.steps)),
                    # A copy: the file that they are mapped from may be replaced.
                    **{m: tensors[f"{m}/{name}"].to(parameter.device, copy=True) for m in MOMENTS},
                }
        logging.info("resuming after step %d", done.steps)
        return done

    def save(self, done: Done, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> None:
        """Replace the checkpoint by one of this moment."""
        tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            for moment in MOMENTS:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
        state = asdict(done) | {"fingerprint": self.fingerprint, "log": self.rows}
        with writing(self.saved) as partial:
            tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(tensors, partial, metadata={"state": json.dumps(state)})

    def start_log(self) -> None:
        """Begin the log file with the rows up to the checkpoint; what came after it is done again."""
        write_text(self.log_file, "".join(self.rows))
        self.started = self.log_file.stat().st_mtime

    def log(self, row: dict) -> None:
        """Append one row to the run's log."""
        self.rows.append(json.dumps(row, allow_nan=False) + "\n")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a", encoding="utf-8") as stream:
            stream.write(self.rows[-1])

    def remove(self) -> None:
        """Delete the working folder, once the run's outputs are in place; also what a killed attempt left in it."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            with suppress(FileNotFoundError):  # another job on the same run may be ending too
                if path in (self.saved, self.log_file) or path.stat().st_mtime < self.started:
                    path.unlink()
        with suppress(OSError):  # another job's unfinished checkpoint keeps the folder, as it is wanted
            self.folder.rmdir()
