"""Other people's variant callers beside ours: which are known, how their calls are taken in, where they disagree."""
