"""The coordinator's service: admission, averaging, state, operation."""
