# shardcam on Ray's image of the pinned version; Ray's own Python makes the environment.
#   docker build -t shardcam:cpu .
#   docker build -t shardcam:cu117 --build-arg VARIANT=cu117 .
#   docker build -t shardcam:torch --build-arg VARIANT=torch .
# NVIDIA's libraries come from PyPI; the driver's libcuda.so.1 comes from the container runtime.
ARG RAY=2.60.0
ARG VARIANT=cpu

FROM rayproject/ray:${RAY}-py311-cpu AS cpu
ENV EXTRA=cpu

FROM rayproject/ray:${RAY}-py311-cpu AS cu112
ENV EXTRA=cu112 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM rayproject/ray:${RAY}-py311-cpu AS cu117
ENV EXTRA=cu117 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM rayproject/ray:${RAY}-py311-cpu AS torch
ENV EXTRA=cpu,torch,nvjpeg NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${VARIANT}
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv /opt/shardcam
# An environment of its own: MXNet needs an older NumPy than what else the image holds.
ENV PATH=/opt/shardcam/bin:$PATH
COPY . /tmp/shardcam
RUN cd /tmp/shardcam \
    && pip install --no-cache-dir -c constraints.txt ".[${EXTRA},codecs,demo,parquet,remote]" \
    && python -m shardcam.engine.models.system_libraries \
    && rm -rf /tmp/shardcam
USER ray
WORKDIR /home/ray
