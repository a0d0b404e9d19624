"""`python -m coopexport`: the command line."""

from coopexport.command_line import run

run()
