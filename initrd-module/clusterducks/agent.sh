# shellcheck shell=sh
# The two things a device says to its agent: "what am I?" (once a boot) and "this far I got". Sourced by clusterducks-boot
# and by clusterducks-up. The token reaches curl by its standard input, because everybody may read an argument list.

# cd_http URL TOKEN OUT [BODY-FILE]: prints the status, 000 where there was no answer. An answer's body is put in OUT.
cd_http() {
	set -- "$1" "$2" "$3" "${4-}" ''
	case $1 in
	https://*)
		[ -s "$CD_CA" ] || {
			echo 000
			echo "there is no CA at $CD_CA to verify the agent with" >&2
			return 1
		}
		;;
	esac
	{
		printf 'url = "%s"\n' "$1"
		printf 'header = "Authorization: Bearer %s"\n' "$2"
		case $1 in
		# --capath names a directory without certificates: only our own CA is asked.
		https://*) printf 'proto = "=https"\ncacert = "%s"\ncapath = "%s"\n' "$CD_CA" "${CD_CA%/*}" ;;
		*) printf 'proto = "=http"\n' ;;
		esac
		[ -z "$4" ] || printf 'data-binary = "@%s"\nheader = "Content-Type: text/plain"\n' "$4"
	} | curl --disable --config - --silent --show-error --noproxy '*' --connect-timeout 5 --max-time "${CD_HTTP_S:-30}" \
		--output "$3" --write-out '%{http_code}\n'
}

# cd_fetch SERVER TOKEN FILE: the metadata of this boot. A token is good for one answer, so an answer is kept for later attempts.
cd_fetch() {
	[ ! -s "$3" ] || return 0
	: >"$3.new" && chmod 0600 "$3.new" || return 1
	cd_status=$(cd_http "$1/metadata/v1/boot" "$2" "$3.new" 2>"$CD_RUN/http-error")
	case $cd_status in
	200) ;;
	401 | 403)
		cd_fail anew "metadata" "the agent at $1 refused this boot's token (status $cd_status)" \
			"a token is good for one boot: start the device again"
		return 1
		;;
	000 | '')
		cd_fail again "metadata" "no answer from the agent at $1: $(cat "$CD_RUN/http-error")" \
			"check the network between the device and the agent, and that the agent runs"
		return 1
		;;
	*)
		cd_fail again "metadata" "the agent at $1 answered with status $cd_status" "look at the agent's log"
		return 1
		;;
	esac
	cd_fault=$(cd_check_metadata "$3.new") ||
		cd_fail anew "metadata" "the agent's answer can't be used: $cd_fault" \
			"the agent and the initrd may be of different versions: build the image's initrd anew" || return 1
	mv "$3.new" "$3"
}

# cd_event SERVER TOKEN STEP MESSAGE: tells the agent; a boot doesn't depend on being heard.
cd_event() {
	cd_body=$(mktemp "$CD_RUN/event.XXXXXX") || return 1
	{
		printf 'step=%s\n' "$3"
		printf 'message=%s\n' "$(printf '%s' "$4" | tr '\n' ' ')"
	} >"$cd_body"
	cd_status=$(CD_HTTP_S=5 cd_http "$1/metadata/v1/events" "$2" "$cd_body.answer" "$cd_body" 2>/dev/null)
	rm -f "$cd_body" "$cd_body.answer"
	[ "$cd_status" = 204 ] || [ "$cd_status" = 200 ]
}
