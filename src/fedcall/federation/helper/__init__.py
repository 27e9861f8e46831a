"""A helper: an organisation beside coordinator and hospitals that takes masks off sums, and off nothing less."""
