"""The figures of a report: what each shows, how it is drawn, and its numbers as a table."""
