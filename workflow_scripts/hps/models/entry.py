"""The one check of a model when it enters a run: that what lies in its folder is a model, and the one it says it is.

What is found stands in model.json under `check`. Jobs hold the files against the hashes beside it.
"""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.data import chat
from hps.logprobs import context
from hps.models import adapters, sources
from hps.models.reward_heads import GATE, LM_HEAD
from hps.support.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REWARD_ROLES = ("reward", "eval_reward", "harm")
"""Those whose model is a sequence classifier."""
SECONDS = 10
"""After which a template that is still rendering four short turns is taken to loop for ever."""
MEMORY = 2 * 2**30
"""Bytes that it may take to do so."""


def check(folder: Path, role: str) -> dict[str, Any]:
    """Check a model folder that is to serve `role` and return what stands in model.json.

    Keys: `tensors` (their number: all there, none left over, all of the sizes that config.json says, all values
    finite), `positions` (tokens of the longest sequence), `vocabulary` (rows of the embedding, and the tokenizer's
    tokens), and those of `chat.described`; of the judge, whose answers a server renders, only its `system_turn`.

    Raises InputError, one line that names the file or tensor: special files and dangling links, weights that are
    pickled, damaged, or not those of config.json, values that are not finite, code that would have to be run, no known
    length, a tokenizer with more tokens than the embedding, a reward role without a reward head, and a template that
    takes too long or does what `chat.described` refuses.
    """
    sources.tensor_shapes(folder)
    if role in REWARD_ROLES:
        sources.reward_head(folder)
    config = _check_tensors(folder, role)
    positions = context.positions(config)
    if positions is None:
        raise InputError(folder / "config.json", "max_position_embeddings is not known: how long may a sequence be?")
    tokenizer = sources.load_tokenizer(folder)
    rows = config.get_text_config().vocab_size
    beyond = [i for i in tokenizer.get_vocab().values() if i >= rows]
    # Special tokens out of reach are common (a pad token that nothing was trained with): only a template writes them.
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if text := sorted(set(beyond) - special):
        raise InputError(
            folder,
            f"{len(text)} tokens of the tokenizer are beyond the {rows} rows of the embedding, the first "
            f"{tokenizer.convert_ids_to_tokens(text[0])!r}",
        )
    return {
        "tensors": _count_finite(folder),
        "positions": positions,
        "vocabulary": {"embedding": rows, "tokenizer": len(tokenizer)},
    } | _within_bounds(folder, tokenizer, role, rows)


def check_published(folder: Path, policy: Path) -> dict[str, Any]:
    """Check the folder of a policy that others trained, which is compared with the model folder `policy`.

    Returns what `check` does of a whole model; of an adapter `tensors` alone.

    Raises InputError as `check` does, or for an adapter as `adapters.check_saved`; and for a model with another
    vocabulary than the policy's tokenizer, which asks it.
    """
    if (folder / sources.ADAPTER).is_file():
        adapters.check_saved(folder, policy)
        return {"tensors": _count_finite(folder)}
    found = check(folder, "policy")
    theirs, ours = (sources.load_tokenizer(one).get_vocab() for one in (folder, policy))
    rows = sources.load_config(policy).get_text_config().vocab_size
    if differing := {token for token, number in theirs.items() ^ ours.items()}:
        raise InputError(
            folder, f"has another vocabulary than the policy: {len(differing)} tokens, such as {min(differing)!r}"
        )
    if found["vocabulary"]["embedding"] != rows:
        raise InputError(folder, f"has {found['vocabulary']['embedding']} rows in its embedding, and the policy {rows}")
    return found


def _check_tensors(folder: Path, role: str):
    """Load the model without memory for its weights, as transformers would with it; returns its configuration."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if role not in REWARD_ROLES:
        return sources.load(AutoModelForCausalLM, folder, device_map="meta").config
    return sources.load(
        AutoModelForSequenceClassification,
        folder,
        unread=[*LM_HEAD, *GATE],
        num_labels=sources.reward_head(folder),
        key_mapping={r"^regression_layer\.": "score."},
        device_map="meta",
    ).config


def _count_finite(folder: Path) -> int:
    """The number of tensors. Raises InputError, naming the first that holds a NaN or an infinity."""
    from safetensors import safe_open

    count = 0
    for path in sources.weight_files(folder):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                tensor = tensors.get_tensor(name)
                # The extremes are NaN where any value is, and take no memory, as a mask of the tensor's size would.
                if tensor.is_floating_point() and not all(end.isfinite() for end in tensor.aminmax()):
                    raise InputError(path, f"tensor {name} holds values that are not finite")
                count += 1
    return count


def _within_bounds(folder: Path, tokenizer: PreTrainedTokenizerBase, role: str, rows: int) -> dict[str, str]:
    """What the template does (`chat.described`), tried in a process of its own that is ended if it does not end."""
    parent, child = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_describe, args=(child, tokenizer, role, rows))
    process.start()
    child.close()
    try:
        if not parent.poll(SECONDS):
            raise InputError(folder, f"the chat template takes more than {SECONDS} s for four short turns")
        found = parent.recv()
    except EOFError:
        raise InputError(folder, "the chat template takes more memory than it may, or ends the process") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, str):
        raise InputError(folder, found)
    return found


def _describe(connection, tokenizer: PreTrainedTokenizerBase, role: str, rows: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        if role == "judge":
            found = {"system_turn": chat.system_turn_of(tokenizer)}
        else:
            found = chat.described(tokenizer, writes=role not in REWARD_ROLES)
        written = max(chat.whole_ids(tokenizer, chat.TURNS[:-1], chat.TURNS[-1]["content"]))
        if written >= rows:
            token = tokenizer.convert_ids_to_tokens(written)
            raise InputError(
                tokenizer.name_or_path, f"the chat template writes {token!r}, beyond the {rows} rows of the embedding"
            )
        connection.send(found)
    except InputError as error:
        connection.send(str(error).removeprefix(f"{tokenizer.name_or_path}: "))
