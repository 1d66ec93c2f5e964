"""What all checks share."""


def unfinished(value: object, name: str) -> bool:
    """Whether a stub returned None; then says so kindly."""
    if value is None:
        print(f"{name}: nothing returned yet. Fill in the stub and run this cell again.")
    return value is None
