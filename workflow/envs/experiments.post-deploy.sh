#!/usr/bin/env bash
# Install fedcall from the checkout the workflow runs from; everything it needs is in the environment already.
set -euo pipefail
pip install --no-deps --no-build-isolation --no-index --editable "${FEDCALL_CHECKOUT:?set by workflow/rules/common.smk}"
