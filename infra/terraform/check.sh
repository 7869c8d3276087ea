#!/bin/sh
# Formatting, validity of every module, tests against a mocked provider, and the tables of the READMEs.
# TF_PLUGIN_DIR: a directory of providers, for machines that do not reach the registry.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
# Whatever the developer has configured must not decide a check.
touch "$work/cli.tfrc"
export TF_CLI_CONFIG_FILE="$work/cli.tfrc"
trap 'rm -rf "$work"' EXIT

terraform -chdir="$here" fmt -check -recursive
"$here/readme.py" --check

# On a copy, so that no lock file or plugin lands among the sources.
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
