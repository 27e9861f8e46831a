"""A run of the workflow: its configuration, read and checked before any job."""
