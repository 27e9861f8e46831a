"""What all reports share: pages, figures."""
