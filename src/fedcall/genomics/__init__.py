"""From alignments to candidates, examples and calls. Knows nothing of privacy, Flower or Snakemake."""
