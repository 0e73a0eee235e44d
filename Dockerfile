# An image with everything, for machines ./dev does not set up itself.
#   docker build -t syncyte . && docker run --rm -it syncyte demo
FROM debian:forky-slim
WORKDIR /syncyte
COPY scripts scripts
COPY dev pyproject.toml ./
RUN bash -c '. scripts/setup.sh && setup_packages build test bench' && rm -rf /var/lib/apt/lists/*
COPY . .
RUN ./dev build
ENTRYPOINT ["./dev"]
CMD ["demo"]
