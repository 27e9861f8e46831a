"""Any callers' files side by side, without a study."""
