"""The errors users meet: each message says what we got, what we want and what to do."""


class RethinedWarning(UserWarning):
    """Something the user should know about a result that was made all the same."""


class RethinedError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(RethinedError):
    """An image, mask, path or option that cannot be used as given."""


class OutputError(RethinedError):
    """A result that could not be written (unwritable folder, full disk)."""


class WeightsError(RethinedError):
    """Weights that are missing, corrupt or of an unknown version."""


class BackendError(RethinedError):
    """A runtime that is not installed or refuses the model."""
