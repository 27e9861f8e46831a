"""Alignments: brought into one form, opened, and read as raw records."""
