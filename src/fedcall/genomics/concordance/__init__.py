"""Calls compared with truth."""
