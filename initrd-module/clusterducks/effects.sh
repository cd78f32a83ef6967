# shellcheck shell=sh
# How a step waits, speaks and fails. Sourced by the programs, before the files that hold their steps.

cd_say() {
	printf 'clusterducks: %s\n' "$*" >>"$CD_CONSOLE"
}

# cd_fail CLASS WHERE WHAT REMEDY: notes a failure and fails. CLASS says whether the same boot may try `again`, or
# whether only a boot made `anew` by the agent can help.
cd_fail() {
	printf '%s\n' "$1" >"$CD_RUN/failure-class"
	printf '%s: %s\n' "$2" "$3" >"$CD_RUN/failure"
	printf '%s\n' "$4" >"$CD_RUN/failure-remedy"
	return 1
}

# cd_wait SECONDS COMMAND...: until the command succeeds, ten times a second.
cd_wait() {
	cd_tries=$(($1 * 10))
	shift
	until "$@"; do
		[ "$cd_tries" -gt 0 ] || return 1
		cd_tries=$((cd_tries - 1))
		sleep 0.1
	done
}
