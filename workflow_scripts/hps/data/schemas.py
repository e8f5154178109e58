"""Columns of the Parquet files that the stages hand on. Every file names a response by the same key.

`hps.data.stages` holds a file against its schema: the columns and their types, `nullable`, and of a field's metadata
`one_of` (the words it may be) and `least` (the smallest number). No two rows have the same values in the columns that
the schema's metadata name as `key`.
"""

import pyarrow as pa

KEY = ("prompt_id", "origin", "index")
"""A response: its prompt, where it comes from (`chosen`, `rejected` or `generated`), its number within that origin."""
ORIGINS = ("chosen", "rejected", "generated")
STATUSES = ("ok", "truncated", "empty")
"""How a response ended: by itself, at the limit of tokens, or at once."""


def _keyed(fields: list[pa.Field], *key: str) -> pa.Schema:
    return pa.schema(fields, metadata={"key": " ".join(key)})


def _of(name: str, words: tuple[str, ...]) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata={"one_of": " ".join(words)})


def _count(name: str, least: int) -> pa.Field:
    return pa.field(name, pa.int32(), nullable=False, metadata={"least": str(least)})


_KEY_FIELDS = [pa.field("prompt_id", pa.string(), nullable=False), _of("origin", ORIGINS), _count("index", 0)]

PAIRS = _keyed(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
        pa.field("chosen_harmful", pa.bool_()),  # the data set's own label; null where it has none
        pa.field("rejected_harmful", pa.bool_()),
    ],
    "prompt_id",
)
"""One human comparison a prompt: `messages` end with the user's turn, `chosen` is the preferred reply."""

LENGTHS = _keyed(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        _count("chosen", 1),  # tokens of the policy's tokenizer, EOS included
        _count("rejected", 1),  # likewise
    ],
    "prompt_id",
)
"""The lengths of one human comparison."""

CANDIDATES = _keyed(
    [
        *_KEY_FIELDS,
        pa.field("response", pa.string(), nullable=False),
        _of("status", STATUSES),
        _count("tokens", 0),  # of the generator's tokenizer, EOS included
    ],
    *KEY,
)

SCORED = _keyed(
    [
        *_KEY_FIELDS,
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("true_reward", pa.float64()),  # known in the toy world only
    ],
    *KEY,
)

REFERENCE = _keyed(
    [
        *_KEY_FIELDS,
        pa.field("log_prob", pa.float64(), nullable=False),  # nats, summed over the response's tokens, EOS included
        _count("tokens", 1),  # of the policy's tokenizer, EOS included: how many
        pa.field("ids", pa.list_(pa.int32()), nullable=False),  # and which
    ],
    *KEY,
)

PROMPTS = _keyed(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        # Rendered by the policy's chat template, up to and including the header of the assistant's turn. All later
        # stages read them here: a template may write the day's date.
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
    ],
    "prompt_id",
)

SAMPLES = _keyed(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        _count("index", 0),
        pa.field("response", pa.string(), nullable=False),
        _of("status", STATUSES),
        _count("tokens", 0),
        pa.field("reward", pa.float64(), nullable=False),  # of the evaluation reward model
        pa.field("true_reward", pa.float64()),
        pa.field("harm_score", pa.float64()),  # of the model in role `harm`, where there is one
        pa.field("harmful", pa.bool_()),  # by the toy world's own rules; else whether that score is above 0
        pa.field("refusal", pa.bool_(), nullable=False),
        pa.field("needless_refusal", pa.bool_()),  # likewise, of a harmless request; null for others, or not known
        pa.field("bleu_word", pa.float64(), nullable=False),  # 0 to 1
        pa.field("bleu_char", pa.float64(), nullable=False),  # 0 to 1
    ],
    "prompt_id",
    "index",
)
"""What a policy answered to the sampled test prompts, N samples each, with the scores of each sample."""

PER_PROMPT = _keyed(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        # of the N samples; null where the prompt is not sampled
        pa.field("bleu_word", pa.float64()),
        pa.field("bleu_char", pa.float64()),
        pa.field("reward", pa.float64()),
        pa.field("reward_mean", pa.float64()),  # over the N samples, instead of the best
        pa.field("true_reward", pa.float64()),  # mean over the N samples; toy world only
        pa.field("harm", pa.float64()),  # share of the N samples that are harmful
        pa.field("refusals", pa.float64()),  # share that refuse
        pa.field("needless_refusals", pa.float64()),  # the same for a harmless request
        pa.field("length", pa.float64()),  # mean tokens of the N samples, EOS included
        # rho_1 and rho_1 - rho_2 in nats and |y_1| - |y_2| in tokens, for the human pair and for the best and the worst
        # annotated response of the prompt; null for the SFT policy itself, and where a prompt has no such pair
        *(
            pa.field(f"{name}_{pair}", pa.float64())
            for pair in ("human", "annotated")
            for name in ("log_ratio_chosen", "margin", "length_gap")
        ),
        pa.field("kl", pa.float64()),  # sum over y_1 of KL(policy || reference) of the next token, nats; y_1 human
    ],
    "prompt_id",
)
"""The evaluation of one policy on one test prompt."""
