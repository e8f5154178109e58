"""Log-probabilities of responses, with each prompt computed once."""
