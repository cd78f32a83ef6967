#!/bin/bash
# What `make bench` runs in the agent's guest. A verb that measures prints milliseconds by the guest's own clock. Usage: guest.sh VERB ARGUMENT...
set -eu -o pipefail
export LC_ALL=C HOME=/run/bench TARGETCLI_HOME=/run/bench
work=/run/bench
server=http://10.77.0.1
origin=tank/clusterducks/groups/lab@g1
initiator=iqn.2003-01.org.example.bench:initiator

mkdir -p "$work"

# timed COMMAND...: what it prints is kept for the case that it fails.
timed() {
	local from=${EPOCHREALTIME/./} to
	if ! "$@" >"$work/output" 2>&1; then
		cat "$work/output"
		return 1
	fi
	to=${EPOCHREALTIME/./}
	awk "BEGIN { print ($to - $from) / 1000 }"
}

# An answer that shows a failure on the device's screen is no boot.
check_script() {
	if ! grep -q '^sanboot' "$@"; then
		cat "$1"
		return 1
	fi
}

# boot MAC: from the request to the last byte of the script, as the device sees it.
boot() {
	local s
	s=$(curl -sS --fail --max-time 90 -o "$work/script" -w '%{time_total}' "$server/boot/$1.ipxe")
	check_script "$work/script"
	awk "BEGIN { print $s * 1000 }"
}

# boots MAC...: one after another, a line each.
boots() {
	local mac
	for mac in "$@"; do boot "$mac"; done
}

# dirty DEVICE...: what each did since its last boot.
dirty() {
	local device
	for device in "$@"; do
		dd if=/dev/urandom of="/dev/zvol/tank/clusterducks/devices/$device" bs=64k count=4 conv=notrunc status=none
	done
	sync
	zpool sync tank
}

# check_new DEVICE: its first bytes are the generation's again.
check_new() {
	local device
	device=$(head -c 262144 "/dev/zvol/tank/clusterducks/devices/$1" | sha256sum)
	[[ $device == "$(head -c 262144 "/dev/zvol/$origin" | sha256sum)" ]]
}

# Everything but the clones' names is what a clone needs by itself.
prepare_clones() { zfs create -o canmount=off tank/bench; }

clone() { timed zfs clone "$origin" "tank/bench/$1"; }

# clones NAME COUNT: one after another.
clones() {
	local number
	for ((number = 0; number < $2; number++)); do
		zfs clone "$origin" "tank/bench/$1-$number"
	done
}

# The agent has the portal's address; a default portal on all addresses would be in its way.
prepare_targetcli() {
	if [[ -d /etc/rtslib-fb-target ]]; then mount -t tmpfs tmpfs /etc/rtslib-fb-target; fi
	targetcli set global auto_add_default_portal=false auto_save_on_exit=false auto_add_mapped_luns=true logfile="$work/targetcli.log"
}

# lun_commands NAME: the LUN that the agent makes for a device, in targetcli's words.
lun_commands() {
	local iqn=iqn.2003-01.org.example.bench:$1
	printf '%s\n' \
		"/backstores/block create name=$1 dev=/dev/zvol/tank/bench/$1" \
		"/iscsi create $iqn" \
		"/iscsi/$iqn/tpg1/portals create 10.77.0.1 3260" \
		"/iscsi/$iqn/tpg1/luns create /backstores/block/$1" \
		"/iscsi/$iqn/tpg1/acls create $initiator" \
		"/iscsi/$iqn/tpg1/acls/$initiator set auth userid=bench password=0123456789abcdef mutual_userid=server mutual_password=fedcba9876543210"
}

check_lun() { [[ -e /sys/kernel/config/target/iscsi/iqn.2003-01.org.example.bench:$1/tpgt_1/acls/$initiator/lun_0/default || -n $(find "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example.bench:$1/tpgt_1/acls/$initiator/lun_0" -type l) ]]; }

clone_for_lun() {
	zfs clone "$origin" "tank/bench/$1"
	until [[ -e /dev/zvol/tank/bench/$1 ]]; do udevadm settle; done
}

lun_by_calls() {
	local line
	clone_for_lun "$1"
	while read -r line; do
		# shellcheck disable=SC2086  # words of one command
		targetcli $line </dev/null
	done < <(lun_commands "$1")
}

lun_by_batch() {
	clone_for_lun "$1"
	lun_commands "$1" | targetcli
}

# targetcli_lun calls|batch NAME: a clone and its LUN.
targetcli_lun() {
	timed "lun_by_$1" "$2"
	check_lun "$2"
}

# Every device asks from its own address: those below 10.77.16.0/20 are made the guest's own.
prepare_storm() {
	ip route add local 10.77.16.0/20 dev lo
	mkdir -p "$work/storm"
}

# storm_list: of lines MAC ADDRESS, what curl shall do.
storm_list() {
	local mac address separator=
	while read -r mac address; do
		printf '%surl = "%s/boot/%s.ipxe"\ninterface = "%s"\noutput = "%s/storm/%s"\nmax-time = 170\nfail\nsilent\nshow-error\nwrite-out = "%%{time_pretransfer} %%{time_total}\\n"\n' \
			"$separator" "$server" "$mac" "$address" "$work" "$mac"
		separator=$'next\n'
	done
}

ask_all() {
	local list pids=() pid
	for list in "$work"/lists/*; do
		curl -Z --no-progress-meter --parallel-immediate --parallel-max 125 -K "$list" >"$list.times" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
}

# storm FILE: lines MAC ADDRESS; four clients ask for all of them in the same moment. Prints the time until the last answer, and
# the latest moment at which a request had been sent.
storm() {
	rm -rf "$work/lists" "$work"/storm/*
	mkdir -p "$work/lists"
	split -n r/4 "$1" "$work/part."
	local part
	for part in "$work"/part.*; do storm_list <"$part" >"$work/lists/${part##*.}"; done
	timed ask_all
	local mac
	while read -r mac _; do check_script "$work/storm/$mac"; done <"$1"
	awk '$1 > last { last = $1 } END { print last * 1000 }' "$work"/lists/*.times
}

"$@"
