"""Train a variant caller on the sequencing data of many hospitals without moving a read out of any of them."""

__version__ = "0.1.0"
