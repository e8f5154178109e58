"""Checkpoints of a training: beside its declared outputs, whole or absent, and only for the run that wrote them."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hps.support.errors import InputError
from hps.support.files import discard, read_json, write_json, write_text, writing
from hps.training import sharding

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
    """The working folder of one run: the last checkpoint (parameters, AdamW moments, the log so far), and the log.

    A checkpoint is used only by a run with the same `fingerprint` (settings and hashes of the inputs); one that
    another run left is ignored. Nothing is pickled.

    Two jobs on the same run (after a lost scheduler, or where a node was given up too early) may share the folder: they
    compute the same checkpoints, each keeps its log for itself, and neither needs what the other removes. The log file
    is for watching.

    Args:
        part: which shard this process holds, where several share the model; all of them then save and load together.
    """

    def __init__(self, folder: str | Path, fingerprint: str, part: int | None = None):
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.saved = self.folder / "checkpoint"
        self.log_file = self.folder / "log.jsonl"
        self.rows: list[str] = []
        self.started = 0.0
        self.part = part

    def load(self, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> Done:
        """Restore parameters, optimizer and log from the last checkpoint; returns how far it had come.

        Raises:
            InputError: another job on the same run has replaced the checkpoint while it was read.
        """
        try:
            state = read_json(self.saved / "state.json")
        except FileNotFoundError:
            return Done()
        if state.pop("fingerprint") != self.fingerprint:
            logging.info("%s: of another configuration or other data, starting anew", self.saved)
            return Done()
        self.rows = state.pop("log")
        done = Done(**state)
        try:
            with safe_open(self.saved / self._file, framework="pt") as file, torch.no_grad():
                if file.metadata() != self._metadata(done):
                    raise self.changed()
                for name, parameter in parameters.items():
                    sharding.local(parameter).copy_(file.get_tensor(f"parameter/{name}"))
                    moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
                    for moment, value in moments.items():
                        sharding.local(value).copy_(file.get_tensor(f"{moment}/{name}"))
                    optimizer.state[parameter] = {"step": torch.tensor(float(done.steps)), **moments}
        except FileNotFoundError as error:
            raise self.changed() from error
        logging.info("resuming after step %d", done.steps)
        return done

    def changed(self) -> InputError:
        """What is wrong when the files read, or what several processes have read, are not of one checkpoint."""
        return InputError(self.saved, "changed while it was read: another job is training the same run")

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
                state = asdict(done) | {"fingerprint": self.fingerprint, "log": self.rows}
                write_json(partial / "state.json", state)
            if self.part is not None:
                partial = sharding.from_first(partial)
            save_file(tensors, partial / self._file, metadata=self._metadata(done))
            if self.part is not None:
                sharding.wait()  # the folder gets its name when every part is in it

    @property
    def _file(self) -> str:
        return "state.safetensors" if self.part is None else f"state-{self.part}.safetensors"

    def _metadata(self, done: Done) -> dict[str, str]:
        """In the header of every file of a checkpoint."""
        return {"steps": str(done.steps), "fingerprint": self.fingerprint}

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
                    discard(path)
        with suppress(OSError):  # another job's unfinished checkpoint keeps the folder, as it is wanted
            self.folder.rmdir()
