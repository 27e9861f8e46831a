"""Benchmarks: each alternates ours and a named peer in one run and reports medians and their ratio."""
