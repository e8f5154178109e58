"""Columns of the Parquet files that the stages hand on. Every file names a response by the same key."""

import pyarrow as pa

KEY = ("prompt_id", "origin", "index")
"""A response: its prompt, where it comes from (`chosen`, `rejected` or `generated`), its number within that origin."""

_KEY_FIELDS = [
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("index", pa.int32(), nullable=False),
]

PAIRS = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
    ]
)
"""One human comparison a prompt: `messages` end with the user's turn, `chosen` is the preferred reply."""

LENGTHS = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("chosen", pa.int32(), nullable=False),  # tokens of the policy's tokenizer, EOS included
        pa.field("rejected", pa.int32(), nullable=False),  # likewise
    ]
)
"""The lengths of one human comparison."""

CANDIDATES = pa.schema(
    [
        *_KEY_FIELDS,
        pa.field("response", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, empty, truncated
        pa.field("tokens", pa.int32(), nullable=False),  # of the generator's tokenizer, EOS included
    ]
)

SCORED = pa.schema(
    [
        *_KEY_FIELDS,
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("true_reward", pa.float64()),  # known in the toy world only
    ]
)

REFERENCE = pa.schema(
    [
        *_KEY_FIELDS,
        pa.field("log_prob", pa.float64(), nullable=False),  # nats, summed over the response's tokens, EOS included
        pa.field("tokens", pa.int32(), nullable=False),  # of the policy's tokenizer, EOS included: how many
        pa.field("ids", pa.list_(pa.int32()), nullable=False),  # and which
    ]
)

SAMPLES = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),  # of the evaluation reward model
        pa.field("true_reward", pa.float64()),
        pa.field("bleu_word", pa.float64(), nullable=False),  # 0 to 1
        pa.field("bleu_char", pa.float64(), nullable=False),  # 0 to 1
    ]
)
"""What a policy answered to the test prompts, N samples each, with the scores of each sample."""

PER_PROMPT = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("bleu_word", pa.float64(), nullable=False),
        pa.field("bleu_char", pa.float64(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("reward_mean", pa.float64(), nullable=False),  # over the N samples, instead of the best
        pa.field("true_reward", pa.float64()),  # mean over the N samples; toy world only
        pa.field("length", pa.float64(), nullable=False),  # mean tokens of the N samples, EOS included
        # rho_1 and rho_1 - rho_2 in nats and |y_1| - |y_2| in tokens, for the human pair and for the best and the worst
        # annotated response of the prompt; null for the SFT policy itself, and where a prompt has no such pair
        *(
            pa.field(f"{name}_{pair}", pa.float64())
            for pair in ("human", "annotated")
            for name in ("log_ratio_chosen", "margin", "length_gap")
        ),
        pa.field("kl", pa.float64()),  # sum over y_1 of KL(policy || reference) of the next token, nats; y_1 human
    ]
)
"""The evaluation of one policy on one test prompt."""
