#!/bin/sh
# Boots a diskless device: network, metadata, iSCSI, root, identity; and says what failed where it can be read.
# The steps are in the files it sources. Each step finds what an earlier attempt has done, so an attempt can start over.
set -u

CD_LIB=${CD_LIB:-/lib/clusterducks}
CD_RUN=${CD_RUN:-/run/clusterducks}
CD_SYS=${CD_SYS:-/sys}
CD_DEV=${CD_DEV:-/dev}
CD_MOUNTS=${CD_MOUNTS:-/proc/self/mounts}
CD_CA=${CD_CA:-/etc/clusterducks/ca.pem}
CD_CONSOLE=${CD_CONSOLE:-/dev/console}
CD_WAIT_S=${CD_WAIT_S:-30}
CD_PAUSE_S=${CD_PAUSE_S:-10}
CD_ATTEMPTS=${CD_ATTEMPTS:-30}
NEWROOT=${NEWROOT:-/sysroot}

for cd_file in lib effects network agent disk root; do
	# shellcheck source=/dev/null
	. "$CD_LIB/$cd_file.sh" || exit 1
done

cd_boot() {
	# shellcheck disable=SC2046 # the fields are words
	set -- $(cd_parse_ip "$(cd_word ip "$cd_line_all")")
	cd_pair=$(cd_parse_ifname "$(cd_word ifname "$cd_line_all")")
	cd_dns=$5
	cd_network_up "${cd_pair#* }" "$@" || return 1
	cd_event "$cd_server" "$cd_token" initrd "$1 on $4" &
	cd_say "asking $cd_server what to be"
	cd_fetch "$cd_server" "$cd_token" "$CD_RUN/metadata" || return 1
	cd_say "$(cd_meta device "$CD_RUN/metadata"): opening $(cd_meta root.target "$CD_RUN/metadata")"
	modprobe -q iscsi_tcp || :
	cd_mount_lower "$CD_RUN/metadata" || return 1
	modprobe -q overlay || :
	cd_mount_upper "$CD_RUN/metadata" "${cd_tmpfs:-50%}" || return 1
	cd_mount_overlay "$CD_RUN/metadata" || return 1
	cd_mount_data "$CD_RUN/metadata" || return 1
	cd_identify "$CD_RUN/metadata" "$cd_dns" || return 1
	cd_hand_over || return 1
}

# What the booted system needs to say that it is up: only root may read it. The secrets of the sessions stay in the kernel.
cd_hand_over() {
	(
		umask 077
		printf '%s\n' "$cd_server" >"$CD_RUN/server" && printf '%s\n' "$cd_token" >"$CD_RUN/token"
	) || cd_fail again "hand-over" "$CD_RUN can't be written" "give the device more memory" || return 1
	[ ! -s "$CD_CA" ] || cp "$CD_CA" "$CD_RUN/ca.pem" || return 1
	cd_event "$cd_server" "$cd_token" root "$(cd_meta root.target "$CD_RUN/metadata") with upper on $(cd_meta upper "$CD_RUN/metadata")" || :
	rm -f "$CD_RUN/metadata"
}

cd_report() {
	cd_failure=$(cat "$CD_RUN/failure") cd_remedy=$(cat "$CD_RUN/failure-remedy")
	cd_say "FAILED: $cd_failure"
	cd_say "WHAT TO DO: $cd_remedy"
	cd_event "$cd_server" "$cd_token" failed "$cd_failure. What to do: $cd_remedy" || :
}

cd_reboot() {
	cd_say "starting the device again in $CD_PAUSE_S seconds"
	sleep "$CD_PAUSE_S"
	sync
	printf 'b\n' >"$CD_SYSRQ"
	sleep 60
	exit 1
}

# cd_after_failure ATTEMPT: returns where the boot is to be tried again.
cd_after_failure() {
	cd_report
	case $(cd_on_failure "$cd_line_all") in
	shell)
		cd_say "a shell; leave it with exit to try again"
		sh +m -i 0<>"$CD_CONSOLE" 1>&0 2>&0 || :
		# A console that ends at once must not make this a busy loop.
		sleep "$CD_PAUSE_S"
		;;
	reboot) cd_reboot ;;
	retry)
		if [ "$(cat "$CD_RUN/failure-class")" = anew ] || [ "$1" -ge "$CD_ATTEMPTS" ]; then
			cd_reboot
		else
			cd_say "trying again in $CD_PAUSE_S seconds (attempt $1 of $CD_ATTEMPTS failed)"
			sleep "$CD_PAUSE_S"
		fi
		;;
	esac
}

CD_SYSRQ=${CD_SYSRQ:-/proc/sysrq-trigger}
IFS= read -r cd_line_all <"${CD_CMDLINE:-/proc/cmdline}" || [ -n "$cd_line_all" ] || exit 1
umask 022
mkdir -p "$CD_RUN" && chmod 0711 "$CD_RUN"
cd_server=$(cd_word cd.server "$cd_line_all")
cd_token=$(cd_word cd.token "$cd_line_all")
cd_tmpfs=$(cd_word cd.tmpfs "$cd_line_all")
cd_attempt=1
while :; do
	if cd_fault=$(cd_check_command_line "$cd_line_all"); then
		cd_boot && break
	else
		cd_fail anew "kernel command line" "$cd_fault" "look at the boot script that the agent renders for this device"
	fi
	cd_after_failure "$cd_attempt"
	cd_attempt=$((cd_attempt + 1))
done
wait
cd_say "root is ready"
