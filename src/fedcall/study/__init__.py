"""What everybody signs: the study, claims and receipts, round openings, the log of decisions."""
