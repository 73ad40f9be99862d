#!/bin/sh
# Run inside an image's build: `slim.sh prepare` before packages are installed, `slim.sh install PACKAGE...`,
# `slim.sh finish` at the end of the same RUN (a file removed in a later one still takes its place).
set -eu
export DEBIAN_FRONTEND=noninteractive

case $1 in
prepare)
    mkdir -p /etc/dpkg/dpkg.cfg.d /usr/share/man/man1 # the JRE's alternatives fail without man1
    for path in doc man locale info i18n lintian; do
        echo "path-exclude=/usr/share/$path/*"
    done >/etc/dpkg/dpkg.cfg.d/slim
    shift
    for path in "$@"; do
        echo "path-exclude=$path"
    done >>/etc/dpkg/dpkg.cfg.d/slim
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # no daemon starts during a build
    chmod +x /usr/sbin/policy-rc.d
    apt-get update -q
    ;;
install)
    shift
    apt-get install -q -y --no-install-recommends "$@"
    ;;
finish)
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/apt \
        /var/log/*.log /tmp/*
    ;;
*)
    echo "slim.sh: prepare, install or finish, not $1" >&2
    exit 2
    ;;
esac
