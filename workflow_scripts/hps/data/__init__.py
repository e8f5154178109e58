"""The preference data: formats, splits, chat templates, and the columns of each stage's files."""
