#!/bin/sh
# Builds the image of this machine's architecture where no image registry is in reach, from the binary that infra/dist.sh built:
# a folder stands in for the Dockerfile's stage `build`; the rest is the Dockerfile. Leaves it in dist/, for `docker load`, and checks
# what it holds. Needs buildah.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
file=ecs-slack-alerts-$version-linux-$arch.docker.tar

# OCI's own format has no HEALTHCHECK.
buildah --storage-driver vfs build --isolation chroot --format docker --build-context build=target/dist --target run \
    --build-arg VERSION="$version" --build-arg REVISION="$REVISION" --tag "ecs-slack-alerts:$version" .
rm -f "dist/$file"
buildah --storage-driver vfs push --quiet "ecs-slack-alerts:$version" "docker-archive:dist/$file:ecs-slack-alerts:$version"
(cd dist && sha256sum ecs-slack-alerts-* >"SHA256SUMS-$arch")

python3 infra/dist_check.py image "dist/$file" "$version" "$REVISION"
