"""`tocsin migrate`."""


def migrate() -> None: ...
