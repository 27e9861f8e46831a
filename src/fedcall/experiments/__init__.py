"""Experiments on simulated and public people: what a claim of privacy holds, what it costs in accuracy.

Nothing here reads a hospital's patients or a ledger. All training goes through the functions that train a study:
`training.dp_sgd.train_privately` at a site, `federation.aggregator.aggregation.next_global` between the rounds.
"""
