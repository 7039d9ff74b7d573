# The service, its simulator and its client commands: one image, one program. Two stages: build, run.

# The version is rust-version in Cargo.toml. `make image BUILD_IMAGE=…@sha256:…` builds with an image that cannot be moved.
ARG BUILD_IMAGE=rust:1.94-slim-bookworm
FROM ${BUILD_IMAGE} AS build
RUN apt-get update && \
    apt-get install --no-install-recommends --yes ca-certificates && \
    rm -rf /var/lib/apt/lists/*
# Writes into the program what it is made of: `cargo audit bin` and image scanners read it.
RUN cargo install --locked --version 0.7.7 cargo-auditable
WORKDIR /src
COPY . .
# Of the commit: what is built holds no other time.
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo auditable build --release --locked && \
    scripts/image-root.sh target/release/pingone-unblock /out/root

FROM scratch
COPY --from=build /out/root/ /
# A number, so that an orchestrator can see that it is not root. No account, no home, nothing of its own to write to.
USER 65532:65532
EXPOSE 50051 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/pingone-unblock", "health"]
ENTRYPOINT ["/usr/local/bin/pingone-unblock"]
CMD ["serve"]
