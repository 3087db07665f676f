# syntax=docker/dockerfile:1
#   docker build --target server -t trimtab-server .     the service, without torch: 0.6 GB
#   docker build --target worker -t trimtab-worker .     everything, torch with CUDA included: 6.3 GB

FROM python:3.13.5-slim-bookworm AS base
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRIMTAB_ARTIFACTS_DIR=/var/lib/trimtab/artifacts \
    TRIMTAB_WORKER_CACHE_DIR=/var/lib/trimtab/cache
RUN useradd --system --uid 10001 --home-dir /var/lib/trimtab trimtab \
    && install --directory --owner=trimtab --mode=0750 /var/lib/trimtab
WORKDIR /app

FROM base AS build
ENV UV_CACHE_DIR=/var/cache/uv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock ./

# What we depend on and what is ours are layers of their own: a change of ours neither fetches, builds nor pushes the gigabytes anew.
FROM build AS build-server
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --frozen --only-group server

FROM build AS build-worker
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --frozen --no-dev --no-install-project

FROM build-server AS ours
COPY . .
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --no-deps --prefix=/ours .

FROM base AS server
COPY --from=build-server /app/.venv .venv
COPY --from=ours /ours .venv
USER 10001
WORKDIR /var/lib/trimtab
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["trimtab", "server", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-worker /app/.venv .venv
COPY --from=ours /ours .venv
USER 10001
WORKDIR /var/lib/trimtab
# A worker opens no port; the service sees its heartbeats.
HEALTHCHECK NONE
CMD ["trimtab", "worker", "start"]
