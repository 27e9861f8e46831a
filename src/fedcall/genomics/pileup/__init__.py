"""From reads to examples: candidates, evidence, likelihoods."""
