# syntax=docker/dockerfile:1
# The image of task-engine, and (target gateway) of the example gateway and publisher that deploy/compose starts.
#
#   docker build -t task-engine .
#   docker run --rm --read-only --security-opt seccomp=deploy/seccomp/task-engine.json --ulimit memlock=8388608:8388608 \
#     -v ./task.yaml:/etc/task-engine/task.yaml:ro -v task-engine:/var/lib/task-engine task-engine
#
# Checked by hadolint in CI. Untried: the project's own machines run no container engine, so this image was never built there.

# What rust-toolchain.toml names; its libc is that of the image below (Debian 12).
FROM rust:1.95.0-bookworm AS source
WORKDIR /source
COPY . .

FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked -p task-engine \
    && install -D target/release/task-engine /out/task-engine \
    && mkdir -p /state

FROM source AS build-examples
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked -p task-engine --example gateway --example publisher \
    && install -D -t /out target/release/examples/gateway target/release/examples/publisher

FROM gcr.io/distroless/cc-debian12:nonroot AS gateway
COPY --from=build-examples /out/gateway /out/publisher /usr/bin/
ENTRYPOINT ["/usr/bin/gateway"]

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="task-engine" \
      org.opencontainers.image.description="The push engine of the Resonance IM system" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/task-engine /usr/bin/task-engine
# Dead letters of core NATS and the lock of an owner of partitions are kept here: the rest of the root may be read-only.
COPY --from=build --chown=65532:65532 /state /var/lib/task-engine
ENV STATE_DIRECTORY=/var/lib/task-engine
WORKDIR /var/lib/task-engine
VOLUME /var/lib/task-engine
USER 65532:65532
EXPOSE 9100
STOPSIGNAL SIGTERM
# Asks where admin.listen of the file says. The default is 127.0.0.1: for Prometheus write ":9100".
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s \
    CMD ["/usr/bin/task-engine", "probe", "--ready", "--config", "/etc/task-engine/task.yaml"]
ENTRYPOINT ["/usr/bin/task-engine"]
CMD ["--config", "/etc/task-engine/task.yaml"]
