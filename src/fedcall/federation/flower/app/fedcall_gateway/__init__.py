"""A hospital's stock SuperNode runs this, and only this, for a fedcall study."""
