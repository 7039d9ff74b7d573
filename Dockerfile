# The service, its simulator and its client commands: one image, one program. Two stages: build, run.

# The version is rust-version in Cargo.toml.
FROM rust:1.94-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && \
    install -D target/release/pingone-unblock /out/pingone-unblock

FROM debian:12.12-slim
# PingOne's certificate is checked against the system's authorities.
RUN apt-get update && \
    apt-get install --no-install-recommends --yes ca-certificates && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /out/pingone-unblock /usr/local/bin/pingone-unblock
# A number, so that an orchestrator can see that it is not root. No account, no home, nothing of its own to write to.
USER 65532:65532
EXPOSE 50051 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/pingone-unblock", "health"]
ENTRYPOINT ["/usr/local/bin/pingone-unblock"]
CMD ["serve"]
