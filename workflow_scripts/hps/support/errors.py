"""The one exception that means "the user's input is wrong", and how it is shown."""

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InputError(ValueError):
    """Bad input: a config key, a data file, a model folder.

    The message is one line that names the file (with its row, where there is one) and the field, and says what
    was expected. Commands print it without a traceback; anything else that goes wrong keeps its traceback.
    """

    def __init__(self, where: object, what: str):
        # What is quoted from the input can hold line ends, a terminal's commands and what no stream can encode.
        super().__init__(_UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], f"{where}: {what}"))
