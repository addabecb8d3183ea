"""What ends a command, and which exit code it gives."""

FAILED = 1
MISUSED = 2


class CommandFailed(Exception):
    """The command can't go on: what happened, and in `hint` what to do next."""

    def __init__(self, message: str, hint: str = "", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class Misused(CommandFailed):
    """What was typed or set can't be meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, MISUSED)
