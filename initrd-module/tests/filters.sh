# shellcheck shell=sh
# Whole files through the filters, and metadata with one line spoilt: each spoilt line is named in what is said.
. ../clusterducks/clusterducks-lib.sh

cases=0 failed=0
expect() { # NAME EXPECTED GOT
	cases=$((cases + 1))
	[ "$2" != "$3" ] || return 0
	failed=$((failed + 1))
	printf '%s: %s: expected:\n%s\ngot:\n%s\n' "$CD_SHELL" "$1" "$2" "$3"
}

expect "the image's own disk is taken out of fstab, and nothing else" "$(cat fstab.expected)" "$(cd_filter_fstab <fstab)"
expect "127.0.1.1 is the device" "$(printf '127.0.0.1 localhost\n127.0.1.10 other\n127.0.1.1\tpc-01')" \
	"$(printf '127.0.0.1 localhost\n127.0.1.1 image\n127.0.1.1\timage2\n127.0.1.10 other\n' | cd_filter_hosts pc-01)"

# spoilt KEY VALUE WHAT-IS-SAID: a key is missing where the value is a dash.
spoilt() {
	while IFS= read -r line; do
		case $line in
		"$1="*) [ "$2" = - ] || printf '%s\n' "$1=$2" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done <metadata/vdisk >"$CD_WORK/spoilt"
	said=$(cd_check_metadata "$CD_WORK/spoilt")
	expect "$1=$2 is refused" "1 $3" "$? $said"
}
# shellcheck disable=SC2094 # the function and the table share a name, not a file
while IFS='|' read -r key value said; do
	spoilt "$key" "$value" "$said"
done <spoilt

printf '%s: filters: %s cases, %s failed\n' "$CD_SHELL" "$cases" "$failed"
[ "$failed" -eq 0 ]
