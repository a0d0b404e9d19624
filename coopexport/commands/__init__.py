"""The command line: one file for each verb, which parses options and prints the result."""
