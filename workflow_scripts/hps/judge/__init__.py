"""The judge of Table 4: which of two responses is better, by a language model or by the toy world's true reward."""
