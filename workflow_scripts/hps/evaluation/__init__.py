"""A policy on test prompts: samples, BLEU, reward, pairs, margins, KL."""
