"""The one export of a network, its layers under the user's names, and where it can be cut."""
