"""What makes a sum private: sampling, clipping, noise."""
