# A server without a network: the image is built from the wheels in dist/ alone.
#
#     python -m pip wheel -w dist -c constraints.txt '.[serve,server]'      # once, with a network
#     docker build --network none -t cmemd-serve .
#     docker run -p 127.0.0.1:8000:8000 -v "$PWD/model:/model:ro" -v "$PWD/gallery:/gallery" \
#         --user "$(id -u)" --read-only --tmpfs /tmp -e CMEMD_TOKEN cmemd-serve
#
# The base image must be on this machine, and its Python the one that made the wheels.
FROM python:3.11-slim

COPY dist/*.whl /wheels/
RUN python -m pip install --no-cache-dir --no-index --find-links /wheels 'cmemd[serve,server]' \
    && useradd --system --uid 10001 --no-create-home cmemd

USER 10001
ENV PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Docker hands the port on from outside, so the server must listen on all addresses, with a token.
ENTRYPOINT ["cmemd", "serve", "--host", "0.0.0.0", "--model", "/model", "--gallery", "/gallery"]
