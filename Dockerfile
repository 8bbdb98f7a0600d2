# On a CPU:  docker build -t dclip .
#            docker run --rm -v "$PWD/outputs:/dclip/outputs" dclip
# On a GPU:  docker run --rm --gpus all -v "$PWD/outputs:/dclip/outputs" dclip
#            Torch brings CUDA's libraries; the host needs NVIDIA's driver and container toolkit. Another
#            base with Python 3.11 or 3.12: docker build --build-arg BASE=IMAGE -t dclip .
# Any other command: docker run ... dclip experiment=toonfaces_zombie
# The demo page: docker run --rm -p 127.0.0.1:7860:7860 -e DCLIP_PASSWORD='something long' -v ... dclip \
#                    task=demo task.host=0.0.0.0 task.port=7860
ARG BASE=python:3.12-slim
FROM ${BASE}
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY conf conf
COPY dclip dclip
RUN python -m pip install --no-cache-dir '.[demo]' -c constraints.txt && rm -rf /src
WORKDIR /dclip
ENTRYPOINT ["dclip"]
CMD ["experiment=toonfaces_red_hair", "preset=quick", "logger=csv"]
