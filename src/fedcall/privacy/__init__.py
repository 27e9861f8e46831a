"""Accounting, clipping, noise and the ledger. Knows nothing of genomics, Flower or Snakemake."""
