#!/bin/sh
# Checks formatting and the tables of the READMEs, validates every module, and runs the tests against a mocked provider.
# TF_PLUGIN_DIR names a directory of providers, for machines that cannot reach the registry.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
# The developer's own CLI configuration must not change the result.
touch "$work/cli.tfrc"
export TF_CLI_CONFIG_FILE="$work/cli.tfrc"
trap 'rm -rf "$work"' EXIT

terraform -chdir="$here" fmt -check -recursive
"$here/readme.py" --check

# Works on a copy, so that no lock file or plugin is written among the sources.
cp -R "$here/." "$work"
for module in . modules/messaging modules/worker examples/complete tests/apply; do
    echo "== $module"
    cd "$work/$module"
    rm -rf .terraform .terraform.lock.hcl
    terraform init -backend=false -input=false ${TF_PLUGIN_DIR:+-plugin-dir="$TF_PLUGIN_DIR"} >init.log || { cat init.log; exit 1; }
    terraform validate
done
cd "$work"
terraform test
