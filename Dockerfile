# The worker on top of an image that can run your Python. Any Linux image with the Python you need will do for
# BASE_IMAGE, a CUDA one for example: the worker and its init are static binaries. BUILD_IMAGE must be Debian with Go.
ARG BUILD_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=python:3.12-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# The image may hold an older patch release than go.mod asks for.
ENV CGO_ENABLED=0 GOTOOLCHAIN=auto
WORKDIR /src
COPY go.mod go.sum ./
# A module proxy of your own; without it the default of Go.
ARG GOPROXY
RUN go mod download
COPY . .
ARG VERSION=unknown
# The build cache would only make the layer larger: it is gone with the next change of a file.
RUN GOCACHE=/tmp/go-build go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/runqy-worker ./cmd/runqy-worker \
    && rm -rf /tmp/go-build

FROM ${BASE_IMAGE}
COPY --from=build /usr/bin/tini-static /usr/local/bin/tini
COPY --from=build /out/runqy-worker /usr/local/bin/runqy-worker

# Your task files go here: COPY them in an image built FROM this one, or mount them. Nothing is written to it, so the
# root file system may be read-only; the worker and most Python libraries want a writable /tmp.
WORKDIR /app
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8001

# The worker finishes its tasks on SIGTERM. Kill it no sooner than worker.shutdown_timeout.
STOPSIGNAL SIGTERM
# The subcommand asks through a unix socket and answers within 3 s. A process that is still starting is not counted
# against the container for the time of python.startup_timeout.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["runqy-worker", "healthcheck"]

# tini reaps the processes that a crashed Python process leaves. -c FILE, or RUNQY_CONFIG, names the configuration.
ENTRYPOINT ["/usr/local/bin/tini", "--", "/usr/local/bin/runqy-worker"]
CMD ["run"]
