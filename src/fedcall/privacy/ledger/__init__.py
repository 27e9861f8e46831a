"""A site's record of what was spent."""
