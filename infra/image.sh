#!/bin/sh
# Builds the image where no image registry is in reach: the binary is built here by the command of the Dockerfile's stage
# `build`, and a folder stands in for that stage; the rest is the Dockerfile. Needs buildah.
set -eu
cd "$(dirname "$0")/.."
target=$(rustc --print host-tuple)
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
export REVISION

RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --package ecs-slack-alerts --target "$target"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$stage/etc/ssl/certs/"
cp "${CARGO_TARGET_DIR:-target}/$target/release/ecs-slack-alerts" "$stage/"
# OCI's own format has no HEALTHCHECK.
buildah --storage-driver vfs build --isolation chroot --format docker --build-context build="$stage" \
    --build-arg REVISION="$REVISION" --tag ecs-slack-alerts .
