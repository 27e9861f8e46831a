"""The evaluation of calls, and which model to use."""
