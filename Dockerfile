# An image of Python, containerdns and nothing else: no shell, no package manager.
#
# The base is pinned by its digest, that of an index of all platforms; another one:
# --build-arg PYTHON_IMAGE=python:3.13-slim
# Without a network: `make wheels` beforehand; what lies in dist/wheels is then installed, and
# nothing is downloaded.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY containerdns containerdns
COPY deploy/image deploy/image
# The first file is there always, and COPY wants one; the brackets let the second be absent.
COPY LICENSE dist/wheel[s] wheels/
RUN ["python3", "deploy/image/assemble.py", "/image", "/state"]

FROM scratch
LABEL org.opencontainers.image.title="containerdns" \
      org.opencontainers.image.description="A Docker-aware authoritative DNS server" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.url="https://github.com/containerdns/containerdns" \
      org.opencontainers.image.source="https://github.com/containerdns/containerdns" \
      org.opencontainers.image.documentation="https://github.com/containerdns/containerdns/tree/main/docs"
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /state /var/lib/containerdns
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 53/udp 53/tcp 8080/tcp
HEALTHCHECK --interval=10s --timeout=6s --start-period=15s CMD ["/usr/bin/containerdns", "healthcheck"]
ENTRYPOINT ["/usr/bin/containerdns"]
CMD ["serve"]
