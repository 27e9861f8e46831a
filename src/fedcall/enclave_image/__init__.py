"""The image of a sealed study's aggregator: kernel, initramfs and command line, the same bytes at every build."""
