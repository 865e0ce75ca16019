# Two stages: the first builds a virtual environment, the second carries nothing but it and Python.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY pyproject.toml README.md LICENSE ./
COPY balancer balancer
COPY load_tester load_tester
COPY migrations migrations
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
EXPOSE 8090
# Exec form: the balancer is process 1 and gets SIGTERM itself.
ENTRYPOINT ["llm-balancer"]
CMD ["serve"]
