# The client library for the demo page.
FROM node:20-slim AS client
WORKDIR /parley
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund

# The environment, without the embedded servers and the development tools.
FROM python:3.11-slim AS environment
WORKDIR /parley
RUN python -m venv /venv
COPY pyproject.toml requirements.lock README.md ./
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c requirements.lock .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /parley parley
WORKDIR /parley
COPY --from=environment /venv /venv
COPY --from=client /parley/node_modules node_modules
COPY protocol protocol
COPY auth auth
COPY presence presence
COPY storage storage
COPY realtime realtime
COPY handlers handlers
COPY server server
COPY web web
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production HOST=0.0.0.0 PORT=3000
USER 10001
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health/liveness\", timeout=2)"]
CMD ["python", "-m", "server"]
