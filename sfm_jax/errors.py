"""Errors that every floor may raise."""


class BadInput(ValueError):
    """What a user gave cannot be used, found out while training; the message is one line for them."""
