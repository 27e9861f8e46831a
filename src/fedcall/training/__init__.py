"""Differentially private training of a study, and public training of its first model."""
