#!/bin/bash
# Builds the images that are missing, all at once, and prints "NAME TAG" for each one asked for.
#
#   docker/images.sh                    all of them
#   docker/images.sh redis postgres     only these
#
# A tag is a hash of what the image is made from, so an unchanged tree builds nothing and a changed Dockerfile is never
# forgotten. The newest is also tagged backstay-NAME:local, which compose.yaml uses.
set -u -o pipefail
cd "$(dirname "$0")" || exit 1
all=(redis postgres mariadb zookeeper)
[ $# -gt 0 ] || set -- "${all[@]}"

hash_of() { # the files' names and contents; find's order differs between file systems, so it is sorted
    find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-12
}
tag_of() { echo "backstay-$1:$(hash_of base.sh slim.sh "$1")"; }
exists() { docker image inspect "$1" >/dev/null 2>&1; }
base=backstay-base:$(hash_of base.sh)

build() { # $1: name, $2: tag. The build's output is kept only when it fails.
    local log
    log=$(mktemp) || return 1
    # --network host: the build needs no bridge. --force-rm: a failed build leaves no container.
    if DOCKER_BUILDKIT=0 docker build --network host --force-rm --build-arg "BASE=$base" --label backstay.image="$1" \
        -t "$2" -t "backstay-$1:local" -f "$1/Dockerfile" . >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 20 "$log" >&2
        echo "docker/images.sh: building $2 failed; the whole output is in $log" >&2
        return 1
    fi
}

missing=()
for name in "$@"; do
    [ -f "$name/Dockerfile" ] || { echo "docker/images.sh: no image '$name'; there are: ${all[*]}" >&2; exit 2; }
    exists "$(tag_of "$name")" || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
    exec 9>"${TMPDIR:-/tmp}/backstay-images-$(id -u).lock" || exit 1
    flock -w 900 9 || { echo "docker/images.sh: another build has held the lock for 15 minutes; end it" >&2; exit 1; }
    exists "$base" || { echo "docker/images.sh: making $base" >&2; ./base.sh "$base" 9>&-; } || exit 1
    builds=()
    for name in "${missing[@]}"; do
        tag=$(tag_of "$name")
        exists "$tag" && continue # somebody else built it while we waited
        echo "docker/images.sh: building $tag" >&2
        build "$name" "$tag" 9>&- &
        builds+=($!)
    done
    failed=0
    for pid in ${builds[@]+"${builds[@]}"}; do wait "$pid" || failed=1; done
    [ "$failed" = 0 ] || exit 1
fi
for name in "$@"; do echo "$name $(tag_of "$name")"; done
