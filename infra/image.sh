#!/bin/sh
# Builds the image for this machine's architecture without an image registry, from the binary that infra/dist.sh built. A folder
# replaces the Dockerfile's stage `build`; the other stage is the Dockerfile's. Writes the image to dist/, for `docker load`, and checks
# its content. Needs buildah.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
file=ecs-slack-alerts-$version-linux-$arch.docker.tar

# The OCI format has no HEALTHCHECK, so the image has Docker's format.
buildah --storage-driver vfs build --isolation chroot --format docker --build-context build=target/dist --target run \
    --build-arg VERSION="$version" --build-arg REVISION="$REVISION" --tag "ecs-slack-alerts:$version" .
rm -f "dist/$file"
buildah --storage-driver vfs push --quiet "ecs-slack-alerts:$version" "docker-archive:dist/$file:ecs-slack-alerts:$version"
(cd dist && sha256sum ecs-slack-alerts-* >"SHA256SUMS-$arch")

python3 infra/dist_check.py image "dist/$file" "$version" "$REVISION"
