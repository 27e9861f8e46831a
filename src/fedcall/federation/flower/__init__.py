"""All that touches Flower's internals (pinned to flwr 1.41)."""
