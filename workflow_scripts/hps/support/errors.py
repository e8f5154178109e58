"""The one exception that means "the user's input is wrong", and how it is shown."""


class InputError(ValueError):
    """Bad input: a config key, a data file, a model folder.

    The message is one line that names the file (with its row, where there is one) and the field, and says what
    was expected. Commands print it without a traceback; anything else that goes wrong keeps its traceback.
    """

    def __init__(self, where: object, what: str):
        super().__init__(f"{where}: {what}")
