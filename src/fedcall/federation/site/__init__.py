"""A site's exchanges with the aggregator."""
