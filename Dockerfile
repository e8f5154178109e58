# An image in which `make reproduce` runs without installing anything:
#
#   docker build -t hps-replica .
#   docker run --rm -v "$PWD/results:/hps-replica/results" hps-replica
#
# It is built by the steps of `make reproduce` itself (docs/environments.md). python:3.11 brings git and make.
FROM python:3.11
WORKDIR /hps-replica
# What is installed depends on these files alone, so another edit does not install it again.
COPY Makefile requirements.txt constraints.txt ./
RUN make .venv/installed
COPY . .
ENV PATH=/hps-replica/.venv/bin:$PATH
CMD ["make", "reproduce"]
