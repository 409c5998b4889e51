# syntax=docker/dockerfile:1
# The first stage installs, fetches models and packages, and builds the default collection; the
# second holds only what serving needs, and needs no network.
FROM python:3.11-slim AS build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY backend backend
COPY assets assets
RUN RANKSCOPE_DATA_DIR=/data python -m backend index && rm -rf /data/downloads /data/lock

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=user /data /home/user/data
WORKDIR /app
COPY --chown=user . .
USER user
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/user \
    PYTHONDONTWRITEBYTECODE=1 \
    RANKSCOPE_DATA_DIR=/home/user/data \
    RANKSCOPE_HOST=0.0.0.0 \
    RANKSCOPE_PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=30s --interval=30s --timeout=5s \
    CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/gradio_api/info')"
CMD ["python", "app.py"]
