"""Small models built from nothing: a tokenizer and a Llama, trained on the conversations they are to speak."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from hps.data.chat import prompt_ids, response_ids
from hps.logprobs import batches
from hps.models.shape import Shape
from hps.support.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""One BOS, then each turn: role marker, text, EOS."""


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens (special ones included), fitted to `texts`.

    Any string encodes and decodes back to itself. The pad token is none of the others, so that no real token is ever
    taken for padding.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [BOS, EOS, PAD, *(f"<|{role}|>" for role in ROLES)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(special) + len(alphabet):
        raise ValueError(f"vocab_size {vocab_size}: the bytes and special tokens are {len(special) + len(alphabet)}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_llama(tokenizer: PreTrainedTokenizerBase, shape: Shape, seed: int) -> PreTrainedModel:
    """A randomly initialised float32 LlamaForCausalLM with tied embeddings."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.positions,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def conversations(rows: Sequence[dict], tokenizer: PreTrainedTokenizerBase, replies: str) -> list[list[int]]:
    """Token ids of each pair's prompt with its chosen reply, and with its rejected one where `replies` is `both`."""
    columns = {"both": ("chosen", "rejected"), "chosen": ("chosen",)}[replies]
    sequences = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row["messages"])
        sequences += [prompt + response_ids(tokenizer, row[column]) for column in columns]
    return sequences


def token_losses(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """-log p of every token but the first of each sequence: (tokens,) in nats, the sequences one after the other."""
    ids, mask = batches.pad(sequences, model.device)
    hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    predicts = mask[:, 1:].bool()
    logits = model.get_output_embeddings()(hidden[:, :-1][predicts])
    return F.cross_entropy(logits.float(), ids[:, 1:][predicts], reduction="none")


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, sequences: Sequence[Sequence[int]], batch_tokens: int) -> float:
    """Mean -log p of a next token over all sequences, nats."""
    model.eval()
    total, tokens = 0.0, 0
    for batch in batches.by_token_budget([len(sequence) for sequence in sequences], batch_tokens):
        losses = token_losses(model, [sequences[i] for i in batch])
        total, tokens = total + losses.double().sum().item(), tokens + len(losses)
    return total / tokens


def pretrain(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    *,
    epochs: int,
    learning_rate: float,
    batch_tokens: int,
    seed: int,
    warmup: float = 0.05,
    weight_decay: float = 0.01,
) -> float:
    """Train `model` in place to predict the next token of `sequences`; returns the mean loss of the last epoch.

    The loss is on all tokens, the user's too: a model that starts from nothing learns the language from both sides.
    The same seed, data and number of threads give the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [len(sequence) for sequence in sequences]
    plan = [batches.epoch_by_tokens(lengths, batch_tokens, generator) for _ in range(epochs)]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True
    )
    schedule = batches.cosine(optimizer, sum(map(len, plan)), warmup)
    model.train()
    epoch_loss = 0.0
    with bar(total=epochs * sum(lengths), what="pretraining", unit="tok") as progress:
        for epoch, epoch_batches in enumerate(plan, start=1):
            total, tokens = 0.0, 0
            for batch in epoch_batches:
                losses = token_losses(model, [sequences[i] for i in batch])
                losses.mean().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                total, tokens = total + losses.detach().sum().item(), tokens + len(losses)
                progress.update(sum(lengths[i] for i in batch))
            epoch_loss = total / tokens
            logging.info("epoch %d of %d: training loss %.3f nats a token", epoch, epochs, epoch_loss)
    model.eval()
    return epoch_loss
