"""How pysam is used here, set where it is imported to read other people's files.

htslib writes its own lines to stderr; ours are the only ones a person should have to read. Headers of BAM and BCF hold
text that people and instruments wrote, in whatever encoding: it passes through unchanged, as it does in VCF.
"""

import pysam

pysam.set_verbosity(0)
pysam.set_encoding_error_handler("surrogateescape")
