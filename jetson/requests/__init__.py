"""What a device is asked to build, and what it answers: archives of files named by their hash."""
