"""Other tools that shrink and cut, beside ours."""
