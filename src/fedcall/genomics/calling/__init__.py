"""From beliefs about candidates to calls."""
