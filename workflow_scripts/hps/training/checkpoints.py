"""Checkpoints of a training: beside its declared outputs, whole or absent, and only for the run that wrote them."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
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

    A finished run leaves links to its outputs (`finish`), which take no room beside them: Snakemake deletes the outputs
    of a job that was killed after its last line, and starts it again.

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
        self.finished = self.folder / "finished"
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
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return Done()
            raise
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

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Keep the run's outputs, by name, and delete all else in the working folder, what killed attempts left too."""
        with writing(self.finished) as partial:
            partial.mkdir()
            for name, path in outputs.items():
                _link(Path(path), partial / name)
            write_text(partial / "fingerprint", self.fingerprint)
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another job on the same run may be ending too
                if path in (self.saved, self.log_file) or (
                    path != self.finished and path.stat().st_mtime < self.started
                ):
                    discard(path)

    def restore(self, outputs: Mapping[str, str]) -> bool:
        """Put the outputs of this run in place, if it has finished before; says whether it had."""
        try:
            finished = (self.finished / "fingerprint").read_text() == self.fingerprint
        except FileNotFoundError:
            return False
        if finished:
            for name, path in outputs.items():
                with writing(path) as partial:
                    _link(self.finished / name, partial)
            logging.info("%s: this run has finished before", self.finished)
        return finished


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file, or a folder of the same files; copies where the file system has no hard links."""

    def one(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    if source.is_dir():
        shutil.copytree(source, target, copy_function=one)
    else:
        one(str(source), str(target))
