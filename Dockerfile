# syntax=docker/dockerfile:1
# A static binary and CA certificates, and nothing else: no shell, no libc. Nothing here names an architecture; each is built natively.
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag ecs-slack-alerts .
#   docker buildx build --platform linux/amd64,linux/arm64 …
# Where no image registry is in reach: infra/image.sh.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# Static linking is for the target alone: without an explicit --target it would be asked of proc macros too, which cannot.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TERM_COLOR=never
# The dependencies are a layer of their own, built for an empty program, until Cargo.toml or Cargo.lock change. The lab is a
# member of the workspace, so its manifest must be there, as must the benchmark that ours names; they are not built.
COPY Cargo.toml Cargo.lock ./
COPY benches/Cargo.toml benches/
COPY tests/lab/Cargo.toml tests/lab/
RUN mkdir src tests/lab/src && touch benches/hot.rs src/lib.rs tests/lab/src/lib.rs && echo 'fn main() {}' > src/main.rs && \
    cargo build --release --locked --package ecs-slack-alerts --target "$(rustc --print host-tuple)"
COPY src src
# The commit, for build_info.
ARG REVISION=unknown
# `touch`, for the sources may be older than the empty program, and cargo goes by time.
RUN touch src/lib.rs src/main.rs && \
    cargo build --release --locked --package ecs-slack-alerts --target "$(rustc --print host-tuple)" && \
    cp target/*/release/ecs-slack-alerts /ecs-slack-alerts

FROM scratch AS run
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ecs-slack-alerts" \
      org.opencontainers.image.description="Tells Slack, at once and with the reason, when Amazon ECS cannot start your tasks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /ecs-slack-alerts /
USER 65532:65532
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/ecs-slack-alerts", "health"]
ENTRYPOINT ["/ecs-slack-alerts"]
CMD ["run"]
