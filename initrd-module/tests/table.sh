# shellcheck shell=sh
# Each line of `table`: function, arguments, exit status, output; the fields and the arguments are separated by | and ^.
. ../clusterducks/clusterducks-lib.sh

lines=0 failed=0
while IFS='|' read -r name arguments status output; do
	case $name in
	'' | '#'*) continue ;;
	esac
	lines=$((lines + 1))
	got=$(
		IFS='^'
		set -f
		# shellcheck disable=SC2086 # the fields are the arguments
		set -- $arguments
		unset IFS
		"$name" "$@"
	)
	got_status=$?
	if [ "$got_status" != "$status" ] || [ "$got" != "$output" ]; then
		printf '%s: %s %s: expected %s "%s", got %s "%s"\n' "$CD_SHELL" "$name" "$arguments" "$status" "$output" "$got_status" "$got"
		failed=$((failed + 1))
	fi
done <table
printf '%s: table: %s lines, %s failed\n' "$CD_SHELL" "$lines" "$failed"
[ "$lines" -gt 0 ] && [ "$failed" -eq 0 ]
