"""Responses to prompts: the engine's contract, transformers, vLLM."""
