#!/bin/sh
# in_rented.sh LAUNCHER TEST [ARG...]: a test under the conditions of a rented container, whose
# flags are in RENTED. With MESHRUN_TRACE the test is traced there instead of wrapped.
# The test and the shim are copied to where any user can read them. 77: cannot be done here.
set -eu
launcher=$1 test=$2
shift 2
[ "$(id -u)" -eq 0 ] || exit 77
"$launcher" true 2>/dev/null || exit 77
unshare --net ip link set lo up 2>/dev/null || exit 77
stage=$(mktemp -d /tmp/meshwrap-rented-XXXXXX)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
cp "$test" "$stage/test"
cp "$LIBMESHWRAP" "$stage/libmeshwrap.so"
cp "$FAKEMESH" "$stage/fakemesh"
if [ -n "${MESHRUN_TRACE-}" ]; then
	cp "$MESHRUN_TRACE" "$stage/meshrun"
	export MESHRUN_TRACE="$stage/meshrun"
fi
export LIBMESHWRAP="$stage/libmeshwrap.so" FAKEMESH="$stage/fakemesh"
cd /
# In a network of its own: others on this machine would take ports that a test counts on.
# shellcheck disable=SC2086 # flags are words
unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
	"$launcher" ${RENTED-} "$stage/test" "$@"
