#!/bin/sh
# Builds the release files for this machine's architecture in dist/, and checks them: the static binary in an archive, its SBOM and
# their checksums. The target is musl if rustup has it, otherwise the C library of this machine. infra/image.sh builds the image.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.tools/bin:$PATH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
machine=$(uname -m)
case $machine in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) echo "there is no release for $machine: build on x86_64 or aarch64" >&2; exit 1 ;; esac
musl=$machine-unknown-linux-musl
if [ -z "${TARGET:-}" ]; then
    TARGET=$(rustc --print host-tuple)
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ]; then TARGET=$musl; fi
fi
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
export REVISION
# The crate cc finds musl-gcc by itself for only one of the two architectures.
case $TARGET in *-musl) export "CC_$(echo "$TARGET" | tr - _)=musl-gcc" ;; esac

# cargo-auditable writes the list of crates into the binary, where scanners of binaries and images find it.
RUSTFLAGS="-C target-feature=+crt-static" cargo auditable build --release --locked --package ecs-slack-alerts --target "$TARGET"

# The files of the image, at the paths of the Dockerfile's stage `build`.
root=target/dist
rm -rf dist "$root" && mkdir -p dist "$root/etc/ssl/certs"
cp "${CARGO_TARGET_DIR:-target}/$TARGET/release/ecs-slack-alerts" "$root/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

name=ecs-slack-alerts-$version-linux-$arch
cargo cyclonedx --quiet --manifest-path Cargo.toml --format json --spec-version 1.5 --target "$TARGET" --no-build-deps --override-filename "$name.cdx"
mv "$name.cdx.json" dist/
find benches tests/lab -maxdepth 1 -name "$name.cdx.json" -delete
# The same commit makes the same archive.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
    --directory "$root" ecs-slack-alerts --directory "$PWD" LICENSE | gzip -n >"dist/$name.tar.gz"
(cd dist && sha256sum "$name".* >"SHA256SUMS-$arch")

python3 infra/dist_check.py binary "$name" "$REVISION"
