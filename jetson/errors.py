"""The one error that users see: a single line that says what is wrong, where, and how to fix it."""


class CoopexportError(Exception):
    """A problem that the user can mend; printed as one line, without a traceback, exit code 2.

    Raise it where the cause is known, with a message in this order: what is wrong, where (file,
    layer, key), how to fix it. Anything else that escapes a command is a bug and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: object) -> str:
    """Return `text` as one line: line breaks and runs of blanks become single spaces, control characters too.

    What other machines and files say ends up in messages: it must not command the terminal that shows them.
    """
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
