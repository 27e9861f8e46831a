#!/usr/bin/env bash
# Draw the pictures of the README from a finished demo: the workflow's rules and the reports as people see them.
#   bash docs/make_pictures.sh        (after make demo; needs Debian's graphviz and chromium)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
for tool in dot chromium; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install graphviz chromium" >&2; exit 1; }
done

# The target rule and its arrows say nothing that the rules' order does not.
snakemake --rulegraph dot 2> /dev/null | grep -v -e 'label = "all"' -e '-> 0$' \
  | dot -Tsvg -Gnodesep=0.25 -Granksep=0.3 > docs/pictures/rules.svg

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
shoot() {  # page, picture, height in pixels
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --user-data-dir="$profile" --hide-scrollbars \
    --window-size="1120,$3" --screenshot="docs/pictures/$2" "file://$PWD/$1" 2> /dev/null
}
shoot results/demo/lakeside/privacy.html privacy.png 900
shoot results/demo/evaluation.html evaluation.png 1100
# Only after: snakemake privacy_utility_sweep --cores all --configfile config/utility.yaml
if [ -f results/utility-patient/utility.html ]; then
  shoot results/utility-patient/utility.html utility.png 1650
fi
