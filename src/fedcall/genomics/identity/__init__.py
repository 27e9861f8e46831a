"""Which alignments are of one human being, and whose are relatives: found from genotypes at common sites."""
