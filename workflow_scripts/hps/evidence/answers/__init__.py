"""The page on which the answers of the methods to the same prompts are read side by side."""
