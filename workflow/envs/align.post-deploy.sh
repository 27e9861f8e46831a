#!/usr/bin/env bash
# Install minimap2's wrapper from PyPI, and fedcall from the checkout the workflow runs from.
set -euo pipefail
checkout="${FEDCALL_CHECKOUT:?set by workflow/rules/common.smk}"
pip install --no-deps --constraint "$checkout/constraints.txt" pyminimap2
pip install --no-deps --no-build-isolation --no-index --editable "$checkout"
