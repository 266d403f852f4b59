# The one image of all services: a container chooses its service by its command. Built by `make images`, which puts
# the locked, hash-checked wheels and our own into build/wheels first. BASE may be a debootstrap'ed base of that name.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3 python3-venv gcc libc6-dev make
COPY services/cni-shim/exec /exec
RUN make -C /exec
COPY build/wheels/locked /wheels/locked
RUN python3 -m venv --without-pip /usr/lib/weave \
 && python3 -m venv /pip \
 && /pip/bin/pip --python /usr/lib/weave/bin/python install -q --no-index --no-compile --no-deps /wheels/locked/*.whl
COPY build/wheels/own /wheels/own
RUN python3 -m venv --without-pip /own \
 && /pip/bin/pip --python /own/bin/python install -q --no-index --no-compile --no-deps /wheels/own/*.whl \
 && sed -i '1s|^#!/own/|#!/usr/lib/weave/|' /own/bin/weave

FROM ${BASE}
# setpriv is in Debian's base; libnftables is what the router speaks to.
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3 libnftables1 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists /var/log/* /var/cache/* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info \
      /usr/lib/python3.11/lib2to3 /usr/lib/python3.11/pydoc_data /usr/lib/python3.11/distutils /usr/share/perl*
COPY images/make-users images/make-folders images/start-router images/write-sbom /usr/libexec/weave/
# The router starts as its own user, and Kubernetes grants no ambient capabilities: a setpriv that only the router's
# group may run hands them on, and forbids any further gain.
RUN /usr/libexec/weave/make-users \
 && cp /usr/bin/setpriv /usr/libexec/weave/setpriv \
 && chown 0:56784 /usr/libexec/weave/setpriv && chmod 0750 /usr/libexec/weave/setpriv \
 && python3 -c 'import os, struct; os.setxattr("/usr/libexec/weave/setpriv", "security.capability", \
      struct.pack("<5I", 0x02000001, 1 << 12 | 1 << 21, 0, 0, 0))'
COPY --from=build /exec/build/weave-net /usr/libexec/weave/weave-net
COPY --from=build /usr/lib/weave /usr/lib/weave
COPY --from=build /own/lib/python3.11/site-packages /usr/lib/weave/lib/python3.11/site-packages
COPY --from=build /own/bin/weave /usr/lib/weave/bin/weave
ARG VERSION=0.1.0
# Read-only root file systems cannot be compiled into: the byte code is made here.
RUN python3 -m compileall -q -j 2 /usr/lib/weave/lib >/dev/null || true; \
    /usr/libexec/weave/write-sbom "${VERSION}" /usr/lib/weave >/usr/libexec/weave/sbom.json
ENV PATH=/usr/lib/weave/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="weave-net" \
      org.opencontainers.image.description="Services of weave-net, a pod network for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
USER 56786:56786
CMD ["weave", "--help"]
