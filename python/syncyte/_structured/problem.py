"""The error of a schema."""


class SchemaError(ValueError):
    """A schema is wrong, or says what a grammar cannot. Travels between interpreters as a ValueError."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"json_schema at {path}: {what}")

    def __reduce__(self) -> tuple[type[ValueError], tuple[str]]:
        return ValueError, (str(self),)
