"""What the best public tools do with the same input, measured side by side with this project."""
