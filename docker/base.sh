#!/bin/bash
# Makes the image that the servers are built from, tagged $1: a trimmed minimal Debian 12 by debootstrap (about 74 MB).
#
# It needs no image registry, so it works where only the distribution's mirror can be reached, and it holds nothing that
# could hide a missing package. Elsewhere (no Debian, or not root) the public debian:bookworm-slim takes its place.
set -eu -o pipefail
tag=$1

die() {
    echo "docker/base.sh: $*" >&2
    exit 1
}

# The mirror that this machine's own apt uses for Debian, so that a machine behind a local mirror works too.
mirror() {
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(SITE) $(REPO_URI)' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "bookworm" && $3 == "main" { print $NF; exit }'
}

# shellcheck source=/dev/null
if [ "$( (. "${BACKSTAY_OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-}"))" != debian ] || [ "$(id -u)" != 0 ]; then
    docker pull -q debian:bookworm-slim >/dev/null || die "cannot pull debian:bookworm-slim (see the line above)"
    docker tag debian:bookworm-slim "$tag"
    exit
fi

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
if ! command -v debootstrap >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -q -y --no-install-recommends debootstrap; } >"$root/log" 2>&1 ||
        die "installing debootstrap failed: $(grep -m 1 '^E:' "$root/log")"
fi
# shellcheck disable=SC2046 # no mirror, no word: debootstrap then takes its own
debootstrap --variant=minbase bookworm "$root/debian" $(mirror) >"$root/log" 2>&1 ||
    die "debootstrap failed: $(tail -n 1 "$root/log")"
tar -C "$root/debian" --one-file-system \
    --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' \
    --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./var/log/*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
    --exclude='./usr/share/info/*' --exclude='./usr/share/i18n/*' \
    -c . | docker import --change 'CMD ["bash"]' - "$tag" >/dev/null
