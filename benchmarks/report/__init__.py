"""The report: figures and tables of a project."""
