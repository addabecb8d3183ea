"""`tocsin doctor`."""


def doctor() -> None: ...
