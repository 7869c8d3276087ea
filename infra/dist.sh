#!/bin/sh
# Builds what a release has for this machine's architecture into dist/, and checks it: the static binary in an archive, its SBOM and
# their checksums. The target is musl where rustup has it, else the C library of this machine. The image: infra/image.sh.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.tools/bin:$PATH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
machine=$(uname -m)
case $machine in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) echo "no release is made for $machine" >&2; exit 1 ;; esac
musl=$machine-unknown-linux-musl
if [ -z "${TARGET:-}" ]; then
    TARGET=$(rustc --print host-tuple)
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ]; then TARGET=$musl; fi
fi
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
export REVISION
# cc takes musl-gcc by itself for one of the two architectures only.
case $TARGET in *-musl) export "CC_$(echo "$TARGET" | tr - _)=musl-gcc" ;; esac

# The crates are listed inside the binary, where scanners of binaries and images look.
RUSTFLAGS="-C target-feature=+crt-static" cargo auditable build --release --locked --package ecs-slack-alerts --target "$TARGET"

# What goes into the image, as the Dockerfile's stage `build` has it.
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
