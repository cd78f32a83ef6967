# shellcheck shell=sh
# iSCSI sessions and the disks behind them: log in, find, and make a vDisk's file system on its first use. Sourced by
# clusterducks-boot. A disk is formatted only when nothing is on it; whatever else is found is left as it is.

# cd_session_of TARGET: the sysfs directory of the session with this target; fails where there is none.
cd_session_of() {
	for cd_entry in "$CD_SYS"/class/iscsi_session/session*; do
		IFS= read -r cd_found 2>/dev/null <"$cd_entry/targetname" || continue
		[ "$cd_found" = "$1" ] || continue
		printf '%s\n' "$cd_entry"
		return 0
	done
	return 1
}

# cd_disk_of TARGET LUN: the kernel's name of the block device (sda); fails while there is none.
cd_disk_of() {
	cd_session=$(cd_session_of "$1") || return 1
	for cd_entry in "$cd_session"/device/target*/*:"$2"/block/*; do
		[ -e "$cd_entry" ] || continue
		printf '%s\n' "${cd_entry##*/}"
		return 0
	done
	return 1
}

# cd_partition_of DISK NUMBER: the kernel's name of a partition; 0 is the disk itself.
cd_partition_of() {
	if [ "$2" = 0 ]; then
		[ -e "$CD_DEV/$1" ] && printf '%s\n' "$1"
		return
	fi
	for cd_entry in "$CD_SYS/class/block/$1/$1"*/partition; do
		IFS= read -r cd_found 2>/dev/null <"$cd_entry" || continue
		[ "$cd_found" = "$2" ] || continue
		cd_entry=${cd_entry%/partition}
		[ -e "$CD_DEV/${cd_entry##*/}" ] || return 1
		printf '%s\n' "${cd_entry##*/}"
		return 0
	done
	return 1
}

# cd_login FILE PREFIX WHAT: a session with the target that FILE's PREFIX.* describe, with CHAP both ways.
# The pings of open-iscsi are off: iscsistart leaves nobody behind who could log in again, so a link that is cut for a
# while must be TCP's to mend, and the SCSI layer's patience is set in cd_disk to more than TCP takes.
cd_login() {
	cd_target=$(cd_meta "$2.target" "$1") cd_portal=$(cd_meta "$2.portal" "$1")
	cd_session_of "$cd_target" >/dev/null && return 0
	iscsistart -i "$(cd_meta initiator "$1")" -t "$cd_target" -g 1 -a "${cd_portal%:*}" -p "${cd_portal##*:}" \
		-u "$(cd_meta "$2.user" "$1")" -w "$(cd_meta "$2.password" "$1")" \
		-U "$(cd_meta "$2.target_user" "$1")" -W "$(cd_meta "$2.target_password" "$1")" \
		--param node.session.auth.authmethod=CHAP \
		--param node.conn[0].timeo.noop_out_interval=0 --param node.conn[0].timeo.noop_out_timeout=0 \
		--param node.session.timeo.replacement_timeout=600 >"$CD_RUN/iscsi-log" 2>&1
	cd_session_of "$cd_target" >/dev/null && return 0
	if grep_file 'uthentication fail' "$CD_RUN/iscsi-log" || grep_file 'authorization failure' "$CD_RUN/iscsi-log"; then
		cd_fail anew "$3" "$cd_portal refused the login to $cd_target" \
			"its secrets are good for one boot: start the device again"
		return 1
	fi
	cd_fail again "$3" "no session with $cd_target at $cd_portal: $(tail_file "$CD_RUN/iscsi-log")" \
		"check that the agent at $cd_portal runs and that nothing blocks TCP port ${cd_portal##*:}"
}

# grep_file TEXT FILE and tail_file FILE: an initrd has neither grep nor tail for sure.
grep_file() {
	while IFS= read -r cd_line || [ -n "$cd_line" ]; do
		case $cd_line in
		*"$1"*) return 0 ;;
		esac
	done <"$2"
	return 1
}

tail_file() {
	cd_last=
	while IFS= read -r cd_line || [ -n "$cd_line" ]; do
		[ -z "$cd_line" ] || cd_last=$cd_line
	done <"$1"
	printf '%s\n' "${cd_last:-iscsistart said nothing}"
}

# cd_disk FILE PREFIX WHAT: logs in and prints the kernel's name of the disk.
cd_disk() {
	cd_login "$1" "$2" "$3" || return 1
	cd_target=$(cd_meta "$2.target" "$1") cd_lun=$(cd_meta "$2.lun" "$1")
	cd_wait "$CD_WAIT_S" cd_disk_of "$cd_target" "$cd_lun" >/dev/null ||
		cd_fail again "$3" "$cd_target has no disk at LUN $cd_lun" "look at the agent's log: is the LUN mapped for this device?" ||
		return 1
	cd_disk=$(cd_disk_of "$cd_target" "$cd_lun")
	printf '180\n' >"$CD_SYS/block/$cd_disk/device/timeout" 2>/dev/null || :
	cd_wait "$CD_WAIT_S" test -e "$CD_DEV/$cd_disk" ||
		cd_fail again "$3" "/dev/$cd_disk did not appear" "look at the kernel's messages above" || return 1
	printf '%s\n' "$cd_disk"
}

# cd_is_zero DEVICE MIB: whether one MiB of the device, counted from 0, holds zeros only.
cd_is_zero() {
	dd if="$1" bs=1048576 skip="$2" count=1 2>/dev/null >"$CD_RUN/mib" || return 1
	[ -s "$CD_RUN/mib" ] && [ "$(tr -d '\000' <"$CD_RUN/mib" | head -c 1 | wc -c)" -eq 0 ]
}

# cd_last_mib DEVICE: the number of its last whole MiB.
cd_last_mib() {
	cd_bytes=$(blockdev --getsize64 "$1") && printf '%s\n' "$((cd_bytes / 1048576 - 1))"
}

# The note that says "we found this vDisk blank and are making its file system": 32 bytes in the last MiB, which the file
# system leaves free. It is what tells a vDisk whose making was cut short by a power cut from somebody's data.
cd_making_note() {
	printf 'clusterducks:%-19s' "$1"
}

cd_write_note() { # DEVICE LAST-MIB
	dd of="$1" bs=1048576 seek="$2" count=1 conv=notrunc,fsync 2>/dev/null
}

# cd_vdisk_state DEVICE LABEL: blank, unfinished, ours, or `foreign <what was found>`.
cd_vdisk_state() {
	cd_last=$(cd_last_mib "$1") || cd_last=0
	if [ "$cd_last" -lt 8 ]; then
		echo "foreign a disk that is too small or can't be read"
		return
	fi
	if [ "$(dd if="$1" bs=1048576 skip="$cd_last" count=1 2>/dev/null | head -c 32 | tr -d '\000')" = "$(cd_making_note "$2")" ]; then
		echo unfinished
		return
	fi
	blkid -p -o export "$1" >"$CD_RUN/blkid" 2>/dev/null
	case $? in
	0)
		cd_type=$(cd_meta TYPE "$CD_RUN/blkid") cd_label=$(cd_meta LABEL "$CD_RUN/blkid")
		if [ "$cd_type" = ext4 ] && [ "$cd_label" = "$2" ]; then
			echo ours
		else
			echo "foreign ${cd_type:-a partition table or other signature}${cd_label:+ labelled $cd_label}"
		fi
		;;
	2)
		if cd_is_zero "$1" 0 && cd_is_zero "$1" "$cd_last"; then
			echo blank
		else
			echo "foreign data without a known signature"
		fi
		;;
	*) echo "foreign a disk that can't be read or has conflicting signatures" ;;
	esac
}

# cd_vdisk_ready DEVICE LABEL NAME: a vDisk with its file system on it, made now if this is its first use.
cd_vdisk_ready() {
	cd_state=$(cd_vdisk_state "$1" "$2")
	case $cd_state in
	ours) return 0 ;;
	blank | unfinished) ;;
	*)
		cd_fail again "vDisk $3" "it should carry the label $2 or be blank, but holds ${cd_state#foreign }; nothing was written to it" \
			"assign the right vDisk, or empty this one, in the panel"
		return 1
		;;
	esac
	cd_say "vDisk $3 is $cd_state: making its file system $2"
	cd_last=$(cd_last_mib "$1")
	cd_making_note "$2" | cd_write_note "$1" "$cd_last" &&
		mkfs.ext4 -q -F -L "$2" -m 0 -E nodiscard "$1" "${cd_last}m" >"$CD_RUN/mkfs-log" 2>&1 &&
		sync &&
		dd if=/dev/zero bs=32 count=1 2>/dev/null | cd_write_note "$1" "$cd_last" ||
		cd_fail again "vDisk $3" "its file system can't be made: $(tail_file "$CD_RUN/mkfs-log")" \
			"check the pool's free space, and that the vDisk is writable" || return 1
}
