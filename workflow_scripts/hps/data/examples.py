"""The candidates of one split joined with their rewards, reference log-probs and token ids, once for all who read them.

A folder of two files. `index.arrow` has one row a prompt: its token ids, and a list of its responses, each with reward,
log-prob, how many tokens it has and where these begin in `tokens.bin`, int32 one after another. Both are mapped into
memory, not read: a training on two responses of a hundred reads those, and processes on one machine share them.

The responses of a prompt stand in the order of the pool: chosen, rejected, the generated ones by number. Those with the
same token ids are one response that was drawn twice, and get one reward (`hps.method.ranking`).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hps.data import stages
from hps.data.schemas import CANDIDATES, KEY, ORIGINS, PAIRS, PROMPTS, REFERENCE, SCORED, STATUSES
from hps.support import files
from hps.support.errors import InputError

INDEX, TOKENS = "index.arrow", "tokens.bin"
GENERATED = ORIGINS.index("generated")
EMPTY = STATUSES.index("empty")


@dataclass(frozen=True)
class Columns:
    """The responses of a split, column by column, each (R,); an empty one has no reward, no log-prob and no tokens."""

    origin: np.ndarray  # int8, into ORIGINS
    index: np.ndarray  # int32, number within the origin
    status: np.ndarray  # int8, into STATUSES
    reward: np.ndarray  # float64
    log_prob: np.ndarray  # float64, under the reference, nats
    start: np.ndarray  # int64, where its tokens begin
    length: np.ndarray  # int32, how many they are
    checksum: np.ndarray  # uint32, CRC of their bytes


_TYPES = {
    "origin": pa.int8(),
    "index": pa.int32(),
    "status": pa.int8(),
    "reward": pa.float64(),
    "log_prob": pa.float64(),
    "start": pa.int64(),
    "length": pa.int32(),
    "checksum": pa.uint32(),
}
_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.large_list(pa.int32())),
        pa.field("responses", pa.large_list(pa.struct(list(_TYPES.items())))),
    ]
)


class Responses(Sequence[list[int]]):
    """Token ids of the n responses to a prompt, each ending in EOS.

    A list of integers takes nine times their memory, so a response becomes a list when it is asked for; then its
    checksum is looked at too.

    Args:
        tokens: of all responses, one after another, int32.
        starts, lengths: where each response begins in `tokens` and how many it has, (n,).
        checksums: CRC-32 of each one's bytes, (n,).
        where: the file, for the message when a checksum is wrong.
    """

    def __init__(
        self, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, checksums: np.ndarray, where: object = ""
    ):
        self.tokens = tokens
        self.starts = starts
        self.lengths = lengths
        self.checksums = checksums
        self.where = where

    @classmethod
    def of(cls, responses: Sequence[Sequence[int]]) -> Responses:
        tokens = np.array([token for response in responses for token in response], dtype="<i4")
        lengths = np.array([*map(len, responses)], dtype=np.int32)
        starts = np.cumsum(lengths) - lengths
        sums = [zlib.crc32(tokens[start : start + n].tobytes()) for start, n in zip(starts, lengths, strict=True)]
        return cls(tokens, starts, lengths, np.array(sums, dtype=np.uint32))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> list[int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = self.starts[number]
        found = self.tokens[start : start + self.lengths[number]]
        if zlib.crc32(found.tobytes()) != self.checksums[number]:
            raise InputError(self.where, f"the tokens at {start} are not what was written there: the file is damaged")
        return found.tolist()


def join(
    out: str | Path,
    pairs: str,
    candidates: Sequence[str],
    scored: Sequence[str],
    reference: Sequence[str],
    prompts: Sequence[str],
) -> None:
    """Write the folder `out` for one split.

    Args:
        pairs: the split's prompts.
        candidates, scored, reference, prompts: what the stages made of them, shard by shard in the same order.

    Raises InputError naming file, and row or response: as `stages.table` does; when a file was made from other files
    than these; when a response that is not empty has no reward or log-prob, or one has them that is no candidate; when
    a prompt of `pairs` has no candidates, or a candidate another prompt; for a token id outside the vocabulary.
    """
    prompt_ids = stages.table(pairs, PAIRS)["prompt_id"].combine_chunks()
    shards: list[tuple[np.ndarray, Columns]] = []
    encoded: dict[str, np.ndarray] = {}
    made_with: dict[str, str] = {}
    reached = 0
    with files.writing(out) as folder:
        folder.mkdir()
        with open(folder / TOKENS, "wb") as stream:
            for paths in zip(candidates, scored, reference, prompts, strict=True):
                found = _read_shard(pairs, prompt_ids, *paths)
                _same_model(made_with, found.made_with, paths[2])
                stream.write(found.tokens)
                found.columns.start[:] += reached
                reached += len(found.tokens) // 4
                shards.append((found.prompt, found.columns))
                encoded |= found.encoded
        prompt = np.concatenate([rows for rows, _ in shards] or [np.empty(0, np.int64)])
        order = np.argsort(prompt, kind="stable")
        counts = np.bincount(prompt, minlength=len(prompt_ids))
        if len(counts) and not counts.all():
            raise InputError(pairs, f"prompt {prompt_ids[int(np.argmin(counts))]} has no candidates")
        joined = {
            field.name: np.concatenate([getattr(columns, field.name) for _, columns in shards])[order]
            for field in fields(Columns)
        }
        made_from = made_with | {"pairs": files.identity(pairs)}
        _write_index(folder / INDEX, prompt_ids, encoded, counts, joined, made_from)


def _write_index(
    path: Path,
    prompt_ids: pa.Array,
    encoded: dict[str, np.ndarray],
    counts: np.ndarray,
    columns: dict[str, np.ndarray],
    made_from: dict[str, str],
) -> None:
    own = [encoded[prompt_id] for prompt_id in prompt_ids.to_pylist()]
    responses = pa.StructArray.from_arrays(
        [pa.array(columns[name], kind) for name, kind in _TYPES.items()], names=list(_TYPES)
    )
    table = pa.Table.from_arrays(
        [
            prompt_ids,
            pa.LargeListArray.from_arrays(_offsets([*map(len, own)]), pa.array(np.concatenate(own), pa.int32())),
            pa.LargeListArray.from_arrays(_offsets(counts), responses),
        ],
        schema=_SCHEMA,
    )
    table = files.signed(table, made_from)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _offsets(lengths: Sequence[int] | np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


@dataclass(frozen=True)
class _Shard:
    prompt: np.ndarray  # (R,) position of each response's prompt in `pairs`
    columns: Columns
    tokens: bytes
    encoded: dict[str, np.ndarray]  # prompt_id -> token ids
    made_with: dict[str, str]


def _read_shard(pairs: str, prompt_ids: pa.Array, candidates: str, scored: str, reference: str, prompts: str) -> _Shard:
    """One shard, its responses in the order of the pool within each prompt."""
    wanted = stages.table(candidates, CANDIDATES)
    stages.made_from(candidates, "pairs", files.identity(pairs), pairs)
    for path in (scored, reference, prompts):
        stages.made_from(path, "candidates", files.identity(candidates), candidates)
    made_with = files.record(reference)["made_from"]
    if files.record(prompts)["made_from"] != made_with:
        raise InputError(prompts, f"was not made together with {reference}: make both again")
    prompt = pc.index_in(wanted["prompt_id"], value_set=prompt_ids).combine_chunks()
    if prompt.null_count:
        row = prompt.is_null().index(True).as_py()
        raise InputError(f"{candidates}: row {row}", f"prompt {wanted['prompt_id'][row]} is not in {pairs}")
    prompt = prompt.to_numpy().astype(np.int64)
    status = _codes(wanted["status"], STATUSES)
    full = np.flatnonzero(status != EMPTY)
    rewards = _column(scored, stages.table(scored, SCORED), "reward", candidates, wanted, full)
    known = stages.table(reference, REFERENCE)
    log_probs = _column(reference, known, "log_prob", candidates, wanted, full)
    ids = known["ids"].combine_chunks()
    lengths = pc.list_value_length(ids).to_numpy()
    if (lengths != known["tokens"].to_numpy()).any():
        row = int(np.argmax(lengths != known["tokens"].to_numpy()))
        raise InputError(
            f"{reference}: row {row}", f"tokens is {known['tokens'][row]}, but there are {lengths[row]} ids"
        )
    vocabulary = int(made_with.get("vocabulary", 0))
    values = ids.flatten().to_numpy().astype("<i4", copy=False)
    given = stages.table(prompts, PROMPTS)
    for path, own in ((reference, values), (prompts, given["ids"].combine_chunks().flatten().to_numpy())):
        if len(own) and not 0 <= own.min() <= own.max() < vocabulary:
            raise InputError(path, f"ids has a token outside the vocabulary of {vocabulary}")
    encoded = dict(zip(given["prompt_id"].to_pylist(), map(_numbers, given["ids"].combine_chunks()), strict=True))
    if missing := set(wanted["prompt_id"].to_pylist()) - encoded.keys():
        raise InputError(prompts, f"prompt {min(missing)} of {candidates} is not there")

    count = len(wanted)
    columns = Columns(
        origin=_codes(wanted["origin"], ORIGINS),
        index=wanted["index"].to_numpy(),
        status=status,
        reward=np.full(count, np.nan),
        log_prob=np.full(count, np.nan),
        start=np.zeros(count, np.int64),
        length=np.zeros(count, np.int32),
        checksum=np.zeros(count, np.uint32),
    )
    columns.reward[full], columns.log_prob[full] = rewards, log_probs
    columns.length[full], columns.start[full] = lengths, np.cumsum(lengths) - lengths
    order = np.lexsort((columns.index, columns.origin, prompt))
    prompt, columns = prompt[order], Columns(**{f.name: getattr(columns, f.name)[order] for f in fields(Columns)})
    tokens = values.tobytes()
    _one_reward(prompt, columns, tokens)
    return _Shard(prompt, columns, tokens, encoded, made_with)


def _one_reward(prompt: np.ndarray, columns: Columns, tokens: bytes) -> None:
    """Give responses of a prompt with the same tokens the reward of the first of them; and all their checksums."""
    first: dict[bytes, int] = {}
    last = -1
    view = memoryview(tokens)
    places = zip(prompt.tolist(), (4 * columns.start).tolist(), (4 * columns.length).tolist(), strict=True)
    for row, (own, start, size) in enumerate(places):
        if own != last:
            first, last = {}, own
        if size:
            response = bytes(view[start : start + size])
            columns.checksum[row] = zlib.crc32(response)
            columns.reward[row] = columns.reward[first.setdefault(response, row)]


def _column(path: str, found: pa.Table, name: str, candidates: str, wanted: pa.Table, full: np.ndarray) -> np.ndarray:
    """A column of a file that has one row for each candidate that is not empty, in their order."""
    wanted = wanted.select(list(KEY)).take(full)
    for row in range(min(len(found), len(wanted))) if not found.select(list(KEY)).equals(wanted) else ():
        there, here = ("/".join(str(table[key][row]) for key in KEY) for table in (found, wanted))
        if there != here:
            raise InputError(f"{path}: row {row}", f"is response {there}, where {candidates} has {here}")
    if len(found) != len(wanted):
        raise InputError(
            path, f"has {len(found)} rows for the {len(wanted)} responses of {candidates}: no {name} for each"
        )
    return found[name].to_numpy()


def _codes(column: pa.ChunkedArray, words: Sequence[str]) -> np.ndarray:
    return pc.index_in(column, value_set=pa.array(words)).to_numpy().astype(np.int8)


def _numbers(scalar: pa.ListScalar) -> np.ndarray:
    return scalar.values.to_numpy()


def _same_model(one: dict[str, str], other: dict[str, str], path: str) -> None:
    """All shards were made by one model."""
    model = {name: value for name, value in other.items() if name not in ("pairs", "candidates")}
    if one and one != model:
        raise InputError(path, "was made by another model than the shards before it")
    one |= model


class Examples:
    """A folder that `join` wrote, mapped into memory.

    Raises InputError naming the file when one is missing, damaged, or not what was written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / INDEX
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            table.validate(full=True)  # before anything follows its offsets
            self.record = files.record(path, table.schema)
            if not table.schema.equals(_SCHEMA):
                raise InputError(path, f"has other columns than {', '.join(_SCHEMA.names)}")
            files.verify(path, table)
            self.tokens = np.memmap(self.folder / TOKENS, "<i4", "r")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(path, f"not a readable folder of examples ({str(error).splitlines()[0]})") from error
        self._prompt_ids, prompts, responses = (files.one_array(table[name]) for name in _SCHEMA.names)
        self._prompt_tokens, self._prompt_ends = prompts.values.to_numpy(), prompts.offsets.to_numpy()
        self.bounds = responses.offsets.to_numpy()
        """(P + 1,): the responses of prompt p are rows bounds[p] to bounds[p + 1] of the columns."""
        own = responses.values
        self.columns = Columns(**{name: own.field(name).to_numpy() for name in _TYPES})
        if len(self.tokens) != self.columns.length.sum(dtype=np.int64):
            raise InputError(self.folder / TOKENS, "has another number of tokens than were written there")

    def __len__(self) -> int:
        return len(self._prompt_ids)

    @cached_property
    def identity(self) -> str:
        """All that the folder holds, as one hash."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()

    @property
    def made_from(self) -> dict[str, str]:
        """`pairs`: identity of the prompts' file; `policy`: of the model whose log-probs and token ids these are;
        `vocabulary`: its size."""
        return self.record["made_from"]

    def check(self, name: str, expected: str, what: str) -> None:
        """Raise InputError when these were made from another `name` than `what`, whose identity is `expected`."""
        if self.made_from.get(name) != expected:
            raise InputError(self.folder, f"was not made from {what} as it is now: make it again")

    @property
    def prompt_lengths(self) -> np.ndarray:
        """(P,) tokens of each prompt."""
        return np.diff(self._prompt_ends)

    def prompt_id(self, prompt: int) -> str:
        return self._prompt_ids[prompt].as_py()

    def prompt(self, prompt: int) -> list[int]:
        """Token ids of a prompt."""
        return self._prompt_tokens[self._prompt_ends[prompt] : self._prompt_ends[prompt + 1]].tolist()

    def responses(self, rows: np.ndarray) -> Responses:
        """Token ids of the responses at these rows."""
        own = (column[rows] for column in (self.columns.start, self.columns.length, self.columns.checksum))
        return Responses(self.tokens, *own, where=self.folder / TOKENS)
