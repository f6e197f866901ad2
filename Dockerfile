# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock clippy.toml ./
COPY src src
COPY fuzz fuzz
COPY config.example.toml ./
# Tests and benches are named in Cargo.toml; building the binary needs their files, not their contents.
# One build gives both: the program without its symbols, and these in a file that debuggers find by its name.
RUN mkdir -p tests/it benches/micro benches/versus && touch tests/it/main.rs benches/memory.rs benches/scale.rs benches/micro/main.rs benches/versus/main.rs \
    && cargo build --profile symbols --locked --bin larder \
    && mkdir out && cd out \
    && objcopy --only-keep-debug ../target/symbols/larder larder.debug \
    && objcopy --strip-all --add-gnu-debuglink=larder.debug ../target/symbols/larder larder

# `docker build --target symbols --output . .` writes larder.debug, the symbols of the image's program.
FROM scratch AS symbols
COPY --from=build /src/out/larder.debug /

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/larder larder
COPY --from=build /src/out/larder /usr/local/bin/larder
USER larder
VOLUME /var/lib/larder
EXPOSE 5273
# Beyond loopback Larder serves only when it is told that anyone may read: mount a configuration that
# says so, or set LARDER_ANYONE_MAY_READ=true.
ENV LARDER_DATA_DIR=/var/lib/larder LARDER_LISTEN=0.0.0.0:5273
ENTRYPOINT ["larder"]
CMD ["serve"]
