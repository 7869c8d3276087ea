# An image with a static binary and CA certificates, without a shell or a libc. Nothing here names an architecture; each is built natively.
#   docker build --build-arg VERSION=0.2.0 --build-arg REVISION="$(git rev-parse HEAD)" --tag ecs-slack-alerts .
#   docker buildx build --platform linux/amd64,linux/arm64 …
# Without access to an image registry, infra/image.sh builds the image from the binary of infra/dist.sh.

# Pinned by digest, so that later builds use the same image.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /build
# Lists the crates inside the binary, for scanners.
RUN cargo install cargo-auditable --locked --version 0.7.7
# Static linking is only for the target. Without an explicit --target, cargo would link proc macros statically too, which is impossible.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TERM_COLOR=never
# The dependencies are a separate layer, built with an empty program, which stays until Cargo.toml or Cargo.lock change. Cargo needs the
# manifests of the workspace's other members, but does not build them.
COPY Cargo.toml Cargo.lock ./
COPY benches/Cargo.toml benches/
COPY tests/lab/Cargo.toml tests/lab/
RUN mkdir src tests/lab/src && touch benches/hot.rs src/lib.rs tests/lab/src/lib.rs && echo 'fn main() {}' > src/main.rs && \
    cargo auditable build --release --locked --package ecs-slack-alerts --target "$(rustc --print host-tuple)"
COPY src src
# The commit, for build_info.
ARG REVISION=unknown
# `touch`, because the sources may be older than the empty program, and cargo compares times.
RUN touch src/lib.rs src/main.rs && \
    cargo auditable build --release --locked --package ecs-slack-alerts --target "$(rustc --print host-tuple)" && \
    cp target/*/release/ecs-slack-alerts /ecs-slack-alerts

FROM scratch AS run
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ecs-slack-alerts" \
      org.opencontainers.image.description="Posts an alert to Slack when Amazon ECS cannot start your tasks, and says why" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /ecs-slack-alerts /
USER 65532:65532
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/ecs-slack-alerts", "health"]
ENTRYPOINT ["/ecs-slack-alerts"]
CMD ["run"]
