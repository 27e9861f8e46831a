# make demo    a study of three simulated hospitals, from reads to reports, in minutes
# make test    every test, by four workers
# make quick   a test of every package, in less than two minutes
# make docs    the documentation as a site, in results/docs
# make install the software alone, into .venv
# make encryption  OpenFHE for encrypted sums, into .venv-encryption; needs a python3.10
# make enclave-image  kernel, initramfs and command line of a sealed study's aggregator, in results/enclave-image
# make enclave-trial  the same for a simulated machine; the test that boots it in QEMU needs it
# make clean   remove what runs produced; private/ (keys, ledgers: a budget spent stays spent) is kept

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-by-make

# One thread per process: Snakemake runs as many processes as there are cores.
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Four workers on two cores too: a third of the time, tests wait for services, timeouts and locks. A file of tests stays with
# one worker, so that what its tests share is made once; tests/conftest.py puts the longest first.
WORKERS := -n 4 --dist loadfile --no-loadscope-reorder

# Ledgers and receipts are synced to disk at every step, so tests on a slow disk wait for it all the time. Where 12 GB are free
# in memory, their folders lie there, and are gone at the end.
SHARED_MEMORY := $(shell df --output=avail -m /dev/shm 2> /dev/null | awk 'NR == 2 && $$1 >= 12000 { print "/dev/shm" }')
IN_MEMORY := $(if $(SHARED_MEMORY),export TMPDIR=$$(mktemp -d -p $(SHARED_MEMORY) fedcall-tests.XXXXXX) \
    && trap 'rm -rf "$$TMPDIR"' EXIT INT TERM;)

.PHONY: demo test quick docs install encryption enclave-image enclave-trial clean

demo: $(INSTALLED)
	$(BIN)/snakemake --cores all
	@echo
	@$(BIN)/fedcall report summary --evaluation results/demo/evaluation.json --privacy results/demo/privacy.json
	@echo
	@echo "Reports: results/demo/privacy.html results/demo/evaluation.html results/demo/*/privacy.html"
	@echo "Calls:   results/demo/*/calls/*.vcf.gz"

test: $(INSTALLED)
	$(IN_MEMORY) $(BIN)/python -m pytest $(WORKERS)

quick: $(INSTALLED)
	$(IN_MEMORY) $(BIN)/python -m pytest $(WORKERS) -m "quick and not slow"

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -q -c docs . results/docs
	@echo "Documentation: results/docs/index.html"

install: $(INSTALLED)

# torch first and by itself, so that pip settles on the build its index offers for this machine before the rest.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,slurm,cluster]'
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[syft]' \
	    || echo "PySyft does not resolve here (fedcall[syft]); its rehearsal and tests will be skipped"
	@touch $@

# OpenFHE's wheel imports on CPython 3.10 only, so it has an environment of its own, behind files.
PYTHON310 ?= $(shell for one in python3.10 $$HOME/.pyenv/versions/3.10.*/bin/python; do \
    "$$one" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2> /dev/null && echo "$$one" && break; done)

encryption: .venv-encryption/.installed-by-make

.venv-encryption/.installed-by-make: workflow/envs/encryption.txt
	@test -n "$(PYTHON310)" \
	    || { echo "CPython 3.10 is needed; name one: make encryption PYTHON310=/path/to/python3.10" >&2; exit 1; }
	@test -x .venv-encryption/bin/pip || $(PYTHON310) -m venv .venv-encryption
	.venv-encryption/bin/pip install --quiet --disable-pip-version-check -r workflow/envs/encryption.txt
	@touch $@

# Debian 12 on x86-64 fetches the packages; each is held against its digest in src/fedcall/enclave_image/lock.
enclave-image: $(INSTALLED)
	$(BIN)/fedcall attestation image --output results/enclave-image

enclave-trial: $(INSTALLED)
	$(BIN)/fedcall attestation image --output results/enclave-trial --trial

clean:
	rm -rf results resources logs benchmarks .snakemake
