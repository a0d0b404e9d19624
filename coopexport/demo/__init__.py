"""The demo: the commands that a user types, on a network that is trained here."""
