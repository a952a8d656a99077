# An image of Python, containerdns and nothing else: no shell, no package manager.
#
# To pin the base by its digest: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
# Without a network: `make wheels` beforehand; what lies in dist/wheels is then installed, and
# nothing is downloaded.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY containerdns containerdns
COPY deploy/image deploy/image
# The first file is there always, and COPY wants one; the brackets let the second be absent.
COPY LICENSE dist/wheel[s] wheels/
RUN ["python3", "deploy/image/assemble.py", "/image", "/state"]

FROM scratch
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
