# Shared by the scripts in this folder; sourced, never run, with the arguments of who does.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ROOT

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
	bold='' red='' plain=''
fi

# Asked for help a script shows the comment at its top, and does nothing.
case ${1:-} in
-h | --help)
	sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "$0"
	exit 0
	;;
esac

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*"; }
fail() {
	printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2
	exit 1
}

# quietly LOG COMMAND...: runs it with its output in LOG, which is shown only when it fails.
quietly() {
	local log=$1 rc=0
	shift
	"$@" >"$log" 2>&1 || rc=$?
	[ $rc -eq 0 ] || tail -n 60 "$log" >&2
	return $rc
}

# configure DIR MESON-OPTIONS...: sets a build folder up, or leaves one that is.
# A folder that was set up for another place or by another meson is made anew.
configure() {
	local dir=$1
	shift
	if [ -f "$dir/build.ninja" ] && meson introspect --projectinfo "$dir" >/dev/null 2>&1 &&
		grep -qF -- "$ROOT" "$dir/build.ninja"; then
		return 0
	fi
	rm -rf "$dir"
	meson setup "$dir" "$ROOT" "$@"
}
