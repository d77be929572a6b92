#!/bin/sh
# in_rented.sh LAUNCHER TEST [ARG...]: a test under the conditions of a rented container.
# The test and the shim are copied to where any user can read them. 77: cannot be done here.
set -eu
launcher=$1 test=$2
shift 2
[ "$(id -u)" -eq 0 ] || exit 77
/usr/bin/python3 -c 'import seccomp' 2>/dev/null || exit 77
/usr/bin/python3 "$launcher" true 2>/dev/null || exit 77
stage=$(mktemp -d /tmp/meshwrap-rented-XXXXXX)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
cp "$test" "$stage/test"
cp "$LIBMESHWRAP" "$stage/libmeshwrap.so"
cp "$FAKEMESH" "$stage/fakemesh"
export LIBMESHWRAP="$stage/libmeshwrap.so" FAKEMESH="$stage/fakemesh"
cd /
/usr/bin/python3 "$launcher" "$stage/test" "$@"
