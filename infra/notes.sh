#!/bin/sh
# Prints the section of a version in CHANGELOG.md: notes.sh 1.2.3. Fails if the version has no section with a date.
set -eu
cd "$(dirname "$0")/.."
grep -qE "^## $1 - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md || { echo "CHANGELOG.md has no heading '## $1 - YYYY-MM-DD'" >&2; exit 1; }
awk -v version="$1" '/^## / { on = $2 == version; next } on' CHANGELOG.md
