#!/bin/sh
# Opens the disk that the firmware booted from over iSCSI (iPXE's sanboot), as its table (iBFT) in memory describes it.
# The disk then shows up as any other, and root= finds it. Where there is no table, nothing is done.
set -u

CD_LIB=${CD_LIB:-/lib/clusterducks}
CD_RUN=${CD_RUN:-/run/clusterducks}
CD_SYS=${CD_SYS:-/sys}
CD_CONSOLE=${CD_CONSOLE:-/dev/console}
CD_WAIT_S=${CD_WAIT_S:-30}

# shellcheck source=/dev/null
. "$CD_LIB/lib.sh" && . "$CD_LIB/effects.sh" && . "$CD_LIB/network.sh" || exit 1

# cd_field FILE: a field of the table, or a dash; a table that leaves a field out says 0.0.0.0.
cd_field() {
	cd_text=
	# The kernel ends some fields without a newline (iscsi_ibft.c), and read calls that a failure.
	IFS= read -r cd_text 2>/dev/null <"$1" || :
	case $cd_text in
	'' | 0.0.0.0) echo - ;;
	*) printf '%s\n' "$cd_text" ;;
	esac
}

cd_open() {
	cd_prefix=$(cd_prefix "$(cd_field "$cd_nic/subnet-mask")") ||
		cd_fail again "iBFT" "the firmware's table has no usable subnet mask" "look at the boot script's settings" || return 1
	modprobe -q iscsi_tcp || :
	cd_network_up "$(cd_field "$cd_nic/mac")" "$(cd_field "$cd_nic/ip-addr")" "$cd_prefix" \
		"$(cd_field "$cd_nic/gateway")" cdboot "$(cd_field "$cd_nic/primary-dns")" || return 1
	iscsistart -b --param node.conn[0].timeo.noop_out_interval=0 --param node.conn[0].timeo.noop_out_timeout=0 \
		--param node.session.timeo.replacement_timeout=600 >"$CD_RUN/iscsi-log" 2>&1 ||
		cd_fail again "iBFT" "the firmware's iSCSI disk can't be opened again: $(cat "$CD_RUN/iscsi-log")" \
			"check that the agent runs" || return 1
}

modprobe -q iscsi_ibft || :
cd_nic=
for cd_entry in "$CD_SYS"/firmware/ibft/ethernet*; do
	[ ! -e "$cd_entry/ip-addr" ] || [ -n "$cd_nic" ] || cd_nic=$cd_entry
done
mkdir -p "$CD_RUN"
if [ -z "$cd_nic" ] || cd_open; then
	: >"$CD_RUN/ibft"
else
	cd_say "FAILED: $(cat "$CD_RUN/failure")"
	cd_say "WHAT TO DO: $(cat "$CD_RUN/failure-remedy")"
fi
