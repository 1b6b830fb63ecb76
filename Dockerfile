# The command line in a container:
#
#     docker build --tag reverie .
#     docker run --rm reverie                                    # reverie doctor
#     docker run --rm --volume "$PWD:/work" reverie train dqn --env CartPole-v1
#
# With `--gpus all` (NVIDIA's container toolkit) the same image uses a GPU. For a small image without CUDA, build it
# with `--build-arg "TORCH=torch --index-url https://download.pytorch.org/whl/cpu"`.
FROM python:3.12-slim-bookworm

# DeepMind Control is drawn by OSMesa where there is no display.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libosmesa6 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH=torch
RUN pip install --no-cache-dir ${TORCH}

ARG EXTRAS=atari,crafter,dmc
COPY pyproject.toml setup.py README.md LICENSE /reverie/
COPY reverie /reverie/reverie
COPY results /reverie/results
RUN pip install --no-cache-dir "/reverie[${EXTRAS}]"

# Runs are written here; mount a folder of the host over it.
WORKDIR /work
ENTRYPOINT ["reverie"]
CMD ["doctor"]
