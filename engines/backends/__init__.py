"""What turns a target's file into an engine and runs it: one module for each library."""
