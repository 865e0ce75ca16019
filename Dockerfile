# Three stages: the first builds the editor, the second a virtual environment with it; the third carries nothing but
# that and Python.
FROM node:22-slim AS webui
WORKDIR /src/webui
COPY webui/package.json webui/package-lock.json webui/.npmrc ./
RUN npm ci
COPY webui ./
RUN npm run build

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY scripts/webui.py scripts/webui.py
COPY balancer balancer
COPY load_tester load_tester
COPY migrations migrations
# Without the sources beside it, the built editor is taken as it is.
COPY --from=webui /src/webui/dist webui/dist
RUN /opt/venv/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin balancer \
    && install -d -o balancer -g balancer -m 0700 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LB_HOST=0.0.0.0 \
    LB_DB_PATH=/data/load_balancer.db
USER balancer
WORKDIR /data
VOLUME /data
EXPOSE 8090 8088
# Exec form: the balancer is process 1 and gets SIGTERM itself.
ENTRYPOINT ["llm-balancer"]
CMD ["serve"]
