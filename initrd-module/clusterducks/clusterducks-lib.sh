# shellcheck shell=sh
# What a device's kernel command line and its metadata say: parsing and checking of text.
# Nothing in this file changes the machine. The files beside it do.

# cd_word NAME TEXT: the value of the last NAME=value among TEXT's words; fails where there is none.
cd_word() (
	set -f
	found=1
	for word in $2; do
		case $word in
		"$1="*) value=${word#*=} found=0 ;;
		esac
	done
	[ "$found" -eq 0 ] && printf '%s\n' "$value"
)

# cd_meta KEY FILE: the value of KEY in a metadata answer; fails where there is none.
cd_meta() {
	while IFS= read -r cd_line || [ -n "$cd_line" ]; do
		case $cd_line in
		"$1="*)
			printf '%s\n' "${cd_line#*=}"
			return 0
			;;
		esac
	done <"$2"
	return 1
}

cd_is_number() {
	case $1 in
	'' | *[!0-9]* | ?????????*) return 1 ;;
	0?*) return 1 ;;
	esac
}

cd_is_hex() { # LENGTH TEXT
	[ "${#2}" -eq "$1" ] || return 1
	case $2 in
	*[!0-9a-f]*) return 1 ;;
	esac
}

cd_is_ipv4() (
	set -f
	case $1 in
	'' | *[!0-9.]* | .* | *. | *..*) return 1 ;;
	esac
	IFS=.
	# shellcheck disable=SC2086 # the words are the octets
	set -- $1
	[ $# -eq 4 ] || return 1
	for octet in "$@"; do
		cd_is_number "$octet" && [ "$octet" -le 255 ] || return 1
	done
)

cd_is_mac() {
	case $1 in
	[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]) ;;
	*) return 1 ;;
	esac
}

# A label of RFC 1123, 63 bytes at most: what sethostname and DNS both take.
cd_is_hostname() {
	[ "${#1}" -le 63 ] || return 1
	case $1 in
	'' | -* | *- | *[!0-9A-Za-z-]*) return 1 ;;
	esac
}

# Names of RFC 3720, lower case; a slash would leave the directory that is named after the target.
cd_is_iqn() {
	[ "${#1}" -le 223 ] || return 1
	case $1 in
	*[!0-9a-z.:-]* | *..* | *: | *.) return 1 ;;
	iqn.[0-9][0-9][0-9][0-9]-[0-9][0-9].?*:?*) ;;
	*) return 1 ;;
	esac
}

cd_is_portal() {
	case $1 in
	*:*) cd_is_ipv4 "${1%:*}" && cd_is_number "${1##*:}" && [ "${1##*:}" -ge 1 ] && [ "${1##*:}" -le 65535 ] ;;
	*) return 1 ;;
	esac
}

# CHAP names and secrets are printable and hold no space: they travel as one argument.
cd_is_secret() {
	case $1 in
	'' | -* | *[!!-~]*) return 1 ;;
	esac
}

# ext4 keeps 16 bytes of label.
cd_is_label() {
	[ "${#1}" -le 16 ] || return 1
	case $1 in
	'' | -* | *[!0-9A-Za-z._-]*) return 1 ;;
	esac
}

cd_is_mount_point() {
	case $1 in
	/ | *//* | */ | */../* | */.. | */./* | */. | *[!0-9A-Za-z/._-]*) return 1 ;;
	/*) ;;
	*) return 1 ;;
	esac
}

cd_is_server() {
	case $1 in
	http://?* | https://?*) ;;
	*) return 1 ;;
	esac
	case ${1#*://} in
	*[!0-9A-Za-z.:-]* | :*) return 1 ;;
	esac
}

# cd_prefix MASK: the prefix length of a dotted mask or of a number; fails for what is neither.
cd_prefix() (
	set -f
	if cd_is_number "$1"; then
		[ "$1" -le 32 ] || return 1
		printf '%s\n' "$1"
		return 0
	fi
	cd_is_ipv4 "$1" || return 1
	IFS=.
	prefix=0 ended=0
	for octet in $1; do
		case $octet in
		255) bits=8 ;; 254) bits=7 ;; 252) bits=6 ;; 248) bits=5 ;; 240) bits=4 ;;
		224) bits=3 ;; 192) bits=2 ;; 128) bits=1 ;; 0) bits=0 ;;
		*) return 1 ;;
		esac
		[ "$ended" -eq 0 ] || [ "$bits" -eq 0 ] || return 1
		[ "$bits" -eq 8 ] || ended=1
		prefix=$((prefix + bits))
	done
	printf '%s\n' "$prefix"
)

# cd_parse_ip VALUE: `address prefix gateway interface dns`, a dash for what was left out.
# The form is dracut's ip=<client>:[<peer>]:<gateway>:<mask>:<hostname>:<interface>:none[:<dns>].
cd_parse_ip() (
	set -f
	address=${1%%:*} rest=${1#*:}
	rest=${rest#*:}
	gateway=${rest%%:*} rest=${rest#*:}
	mask=${rest%%:*} rest=${rest#*:}
	rest=${rest#*:}
	interface=${rest%%:*} rest=${rest#*:}
	method=${rest%%:*}
	dns=
	case $rest in
	*:*) dns=${rest#*:} dns=${dns%%:*} ;;
	esac
	cd_is_ipv4 "$address" || return 1
	[ -z "$gateway" ] || cd_is_ipv4 "$gateway" || return 1
	[ -z "$dns" ] || cd_is_ipv4 "$dns" || return 1
	prefix=$(cd_prefix "$mask") || return 1
	case $method in
	none | off | static) ;;
	*) return 1 ;;
	esac
	case $interface in
	'' | *[!0-9A-Za-z_-]* | ????????????????*) return 1 ;;
	esac
	printf '%s %s %s %s %s\n' "$address" "$prefix" "${gateway:--}" "$interface" "${dns:--}"
)

# cd_parse_ifname VALUE: `name mac`, the MAC in lower case.
cd_parse_ifname() {
	cd_name=${1%%:*} cd_mac=$(printf '%s\n' "${1#*:}" | tr 'A-F-' 'a-f:')
	[ -n "$cd_name" ] && cd_is_mac "$cd_mac" || return 1
	printf '%s %s\n' "$cd_name" "$cd_mac"
}

# cd_check_command_line TEXT: prints the first fault that no retry can mend; silent when all is well.
cd_check_command_line() {
	cd_address=$(cd_parse_ip "$(cd_word ip "$1")") || {
		echo "ip= is missing or is not <address>::<gateway>:<mask>:<hostname>:<interface>:none"
		return 1
	}
	cd_pair=$(cd_parse_ifname "$(cd_word ifname "$1")") || {
		echo "ifname= is missing or is not <interface>:<mac>"
		return 1
	}
	# shellcheck disable=SC2086 # the fields are words
	set -- "$1" $cd_address
	[ "$5" = "${cd_pair%% *}" ] || {
		echo "ip= names the interface $5 and ifname= names ${cd_pair%% *}"
		return 1
	}
	cd_is_server "$(cd_word cd.server "$1")" || {
		echo "cd.server= is missing or is not http://<host>[:<port>] or https://..."
		return 1
	}
	cd_is_hex 64 "$(cd_word cd.token "$1")" || {
		echo "cd.token= is missing or is not 64 hex digits"
		return 1
	}
}

# cd_on_failure TEXT: what the command line wants done after a failure.
cd_on_failure() {
	case $(cd_word cd.onfail "$1") in
	shell) echo shell ;;
	reboot) echo reboot ;;
	*) echo retry ;;
	esac
}

# cd_check_field FILE KEY TEST...: prints the fault of one field.
cd_check_field() {
	cd_file=$1 cd_key=$2
	shift 2
	cd_value=$(cd_meta "$cd_key" "$cd_file") || {
		echo "$cd_key is missing"
		return 1
	}
	"$@" "$cd_value" || {
		echo "$cd_key has a value that can't be used"
		return 1
	}
}

cd_check_target() { # FILE PREFIX
	cd_check_field "$1" "$2.target" cd_is_iqn &&
		cd_check_field "$1" "$2.portal" cd_is_portal &&
		cd_check_field "$1" "$2.lun" cd_is_number &&
		cd_check_field "$1" "$2.user" cd_is_secret &&
		cd_check_field "$1" "$2.password" cd_is_secret &&
		cd_check_field "$1" "$2.target_user" cd_is_secret &&
		cd_check_field "$1" "$2.target_password" cd_is_secret
}

cd_is_mount_point_or_empty() {
	[ -z "$1" ] || cd_is_mount_point "$1"
}

# cd_check_metadata FILE: prints the first fault of an answer; silent when it can be used.
cd_check_metadata() {
	[ "$(cd_meta mode "$1")" = overlay ] || {
		echo "mode is '$(cd_meta mode "$1")' and this initrd knows overlay only"
		return 1
	}
	cd_check_field "$1" boot cd_is_hex 32 &&
		cd_check_field "$1" device cd_is_hostname &&
		cd_check_field "$1" hostname cd_is_hostname &&
		cd_check_field "$1" machine_id cd_is_hex 32 &&
		cd_check_field "$1" initiator cd_is_iqn &&
		cd_check_target "$1" root &&
		cd_check_field "$1" root.partition cd_is_number &&
		cd_check_field "$1" vdisks cd_is_number || return 1
	cd_vdisks=$(cd_meta vdisks "$1") cd_i=1
	while [ "$cd_i" -le "$cd_vdisks" ]; do
		cd_check_target "$1" "vdisk.$cd_i" &&
			cd_check_field "$1" "vdisk.$cd_i.name" cd_is_hostname &&
			cd_check_field "$1" "vdisk.$cd_i.label" cd_is_label &&
			cd_check_field "$1" "vdisk.$cd_i.mount" cd_is_mount_point_or_empty || return 1
		cd_i=$((cd_i + 1))
	done
	case $(cd_meta upper "$1") in
	tmpfs) ;;
	vdisk:*)
		cd_i=$(cd_meta upper "$1") cd_i=${cd_i#vdisk:}
		if ! cd_is_number "$cd_i" || [ "$cd_i" -lt 1 ] || [ "$cd_i" -gt "$cd_vdisks" ]; then
			echo "upper names a vDisk that the answer does not hold"
			return 1
		fi
		;;
	*)
		echo "upper is neither tmpfs nor vdisk:<number>"
		return 1
		;;
	esac
}

# cd_mount_options TYPE: how a write-protected snapshot is mounted, whose journal nobody can replay.
cd_mount_options() {
	case $1 in
	ext4) echo ro,noload ;;
	xfs) echo ro,norecovery,nouuid ;;
	btrfs) echo ro,rescue=nologreplay ;;
	*) return 1 ;;
	esac
}

# cd_filter_fstab: an image's fstab without the lines that wait for the disk it was installed on.
# A line for a disk that its author marked nofail stays: it can't hold the boot up.
cd_filter_fstab() {
	while IFS= read -r cd_line || [ -n "$cd_line" ]; do
		(
			set -f
			# shellcheck disable=SC2086 # fstab's fields are words
			set -- $cd_line
			case ${1-} in
			'' | '#'*) exit 0 ;;
			esac
			[ "${2-}" != / ] || exit 1
			case ,${4-}, in
			*,nofail,* | *,noauto,*) exit 0 ;;
			esac
			case $1 in
			/* | UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=* | ID=*) exit 1 ;;
			esac
		) || cd_line="# not for a diskless device: $cd_line"
		printf '%s\n' "$cd_line"
	done
}

# cd_filter_hosts HOSTNAME: a hosts file in which 127.0.1.1 is this host and nobody else.
cd_filter_hosts() {
	while IFS= read -r cd_line || [ -n "$cd_line" ]; do
		case $cd_line in
		127.0.1.1 | '127.0.1.1 '* | '127.0.1.1	'*) ;;
		*) printf '%s\n' "$cd_line" ;;
		esac
	done
	printf '127.0.1.1\t%s\n' "$1"
}
