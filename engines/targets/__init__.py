"""What engines can be built for, and what each target can and cannot do."""
