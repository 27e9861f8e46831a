"""VCF files: opened after checks, and written whole."""
