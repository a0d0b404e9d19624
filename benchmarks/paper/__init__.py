"""What the published results become with this project: their networks, rebuilt and measured here."""
