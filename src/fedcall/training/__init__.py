"""The model and its differentially private training."""
