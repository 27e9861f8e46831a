"""The study, its claims and receipts, and the Flower aggregator that admits and averages updates."""
