"""The model and its differentially private training."""

import os

# Equal inputs must give equal bits wherever a unit stands in a batch: otherwise a patient's removal would shift others
# in memory and change their contributions in the last bit. MKL promises that only in this mode (Intel oneMKL developer
# guide, "Conditional Numerical Reproducibility"). The other two pin vector units, so that the processors of one cluster
# agree as well. All are read when the first kernel runs.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
