# shellcheck shell=sh
# The root that a device runs on: a generation, read-only, below an overlay on tmpfs or on a vDisk; the data vDisks; and
# what makes it this device and no other. Sourced by clusterducks-boot.

cd_mounted() {
	while read -r _ cd_where _; do
		[ "$cd_where" != "$1" ] || return 0
	done <"$CD_MOUNTS"
	return 1
}

# cd_mount_lower FILE: the generation at $CD_RUN/lower.
cd_mount_lower() {
	! cd_mounted "$CD_RUN/lower" || return 0
	cd_disk=$(cd_disk "$1" root "root disk") || return 1
	cd_number=$(cd_meta root.partition "$1")
	cd_wait "$CD_WAIT_S" cd_partition_of "$cd_disk" "$cd_number" >/dev/null ||
		cd_fail again "root disk" "/dev/$cd_disk has no partition $cd_number" "check the group's root partition in the panel" || return 1
	cd_part=$(cd_partition_of "$cd_disk" "$cd_number")
	cd_type=$(blkid -p -o value -s TYPE "$CD_DEV/$cd_part")
	cd_options=$(cd_mount_options "$cd_type") ||
		cd_fail again "root disk" "/dev/$cd_part holds '${cd_type:-nothing known}' and no ext4, xfs or btrfs" \
			"check the group's root partition in the panel" || return 1
	modprobe -q "$cd_type" || :
	mkdir -p "$CD_RUN/lower"
	mount -t "$cd_type" -o "$cd_options" "$CD_DEV/$cd_part" "$CD_RUN/lower" ||
		cd_fail again "root disk" "/dev/$cd_part ($cd_type) can't be mounted" \
			"the generation's file system may be damaged: go back to the one before it in the panel" || return 1
}

# cd_mount_vdisk FILE NUMBER WHERE
cd_mount_vdisk() {
	! cd_mounted "$3" || return 0
	cd_vdisk=$(cd_meta "vdisk.$2.name" "$1")
	cd_disk=$(cd_disk "$1" "vdisk.$2" "vDisk $cd_vdisk") || return 1
	cd_vdisk_ready "$CD_DEV/$cd_disk" "$(cd_meta "vdisk.$2.label" "$1")" "$cd_vdisk" || return 1
	modprobe -q ext4 || :
	mkdir -p "$3"
	mount -t ext4 "$CD_DEV/$cd_disk" "$3" ||
		cd_fail again "vDisk $cd_vdisk" "its file system can't be mounted" \
			"check it with e2fsck on the agent, or go back to one of its snapshots in the panel" || return 1
}

# cd_mount_upper FILE TMPFS-SIZE: what the device writes, at $CD_RUN/upper.
cd_mount_upper() {
	cd_upper=$(cd_meta upper "$1")
	case $cd_upper in
	vdisk:*)
		cd_mount_vdisk "$1" "${cd_upper#vdisk:}" "$CD_RUN/upper"
		return
		;;
	esac
	! cd_mounted "$CD_RUN/upper" || return 0
	mkdir -p "$CD_RUN/upper"
	mount -t tmpfs -o "mode=0755,size=$2" clusterducks "$CD_RUN/upper" ||
		cd_fail again "overlay" "no tmpfs of size $2 can be made" "correct cd.tmpfs= in the group's kernel command line" || return 1
}

# cd_mount_overlay FILE: the root at $NEWROOT. Each generation has its own upper directory: an upper belongs to one lower.
cd_mount_overlay() {
	! cd_mounted "$NEWROOT" || return 0
	cd_generation=$(cd_meta root.target "$1") cd_generation=${cd_generation##*:}
	mkdir -p "$CD_RUN/upper/upper/$cd_generation" "$CD_RUN/upper/work/$cd_generation" &&
		mount -t overlay \
			-o "lowerdir=$CD_RUN/lower,upperdir=$CD_RUN/upper/upper/$cd_generation,workdir=$CD_RUN/upper/work/$cd_generation" \
			overlay "$NEWROOT" ||
		cd_fail again "overlay" "the overlay on $(cd_meta upper "$1") can't be mounted" "look at the kernel's messages above" || return 1
}

# cd_inside PATH: whether no part of $NEWROOT/PATH is a symbolic link, which would lead out of the new root.
cd_inside() (
	set -f
	path=$NEWROOT
	IFS=/
	for part in ${1#/}; do
		path=$path/$part
		[ ! -L "$path" ] || return 1
	done
)

# cd_mount_data FILE: the vDisks with a mount point.
cd_mount_data() {
	cd_count=$(cd_meta vdisks "$1") cd_i=1
	while [ "$cd_i" -le "$cd_count" ]; do
		cd_point=$(cd_meta "vdisk.$cd_i.mount" "$1")
		if [ -n "$cd_point" ] && [ "$(cd_meta upper "$1")" != "vdisk:$cd_i" ]; then
			cd_inside "$cd_point" ||
				cd_fail again "vDisk $(cd_meta "vdisk.$cd_i.name" "$1")" "its mount point $cd_point is or lies under a symbolic link" \
					"give it another mount point in the panel" || return 1
			cd_mount_vdisk "$1" "$cd_i" "$NEWROOT$cd_point" || return 1
		fi
		cd_i=$((cd_i + 1))
	done
}

# cd_identity_dir FILE: the directory that keeps a device's identity: on the upper's vDisk, else on the first with a
# mount point; fails where no vDisk is there.
cd_identity_dir() {
	case $(cd_meta upper "$1") in
	vdisk:*)
		printf '%s\n' "$CD_RUN/upper/identity"
		return 0
		;;
	esac
	cd_count=$(cd_meta vdisks "$1") cd_i=1
	while [ "$cd_i" -le "$cd_count" ]; do
		cd_point=$(cd_meta "vdisk.$cd_i.mount" "$1")
		if [ -n "$cd_point" ]; then
			printf '%s\n' "$NEWROOT$cd_point/.clusterducks-identity"
			return 0
		fi
		cd_i=$((cd_i + 1))
	done
	return 1
}

# cd_replace FILE: standard input becomes the file, whatever was there: a link of the image must not be followed from here.
cd_replace() {
	cat >"$1.clusterducks" && mv -f "$1.clusterducks" "$1"
}

# cd_rewrite FILE FILTER...: a file of the image goes through a filter; one that is not there is an empty one. A link is
# read as empty too.
cd_rewrite() {
	cd_from=$1
	shift
	if [ -L "$cd_from" ] || [ ! -f "$cd_from" ]; then
		"$@" </dev/null >"$cd_from.clusterducks"
	else
		"$@" <"$cd_from" >"$cd_from.clusterducks"
	fi && mv -f "$cd_from.clusterducks" "$cd_from"
}

# cd_machine_id FILE [IDENTITY-DIR]: a vDisk's machine-id wins over the agent's, because programs on it know it.
cd_machine_id() {
	if [ -n "${2-}" ] && IFS= read -r cd_id 2>/dev/null <"$2/machine-id" && cd_is_hex 32 "$cd_id"; then
		printf '%s\n' "$cd_id"
	else
		cd_meta machine_id "$1"
	fi
}

# cd_identify FILE DNS: who this device is, written into the new root.
cd_identify() {
	cd_host=$(cd_meta hostname "$1") cd_etc=$NEWROOT/etc
	cd_identity=$(cd_identity_dir "$1") || cd_identity=
	cd_id=$(cd_machine_id "$1" "$cd_identity")
	if [ -n "$cd_identity" ]; then
		mkdir -p "$cd_identity/ssh" && chmod 0700 "$cd_identity" &&
			printf '%s\n' "$cd_id" | cd_replace "$cd_identity/machine-id" &&
			printf '%s\n' "${cd_identity#"$NEWROOT"}" >"$CD_RUN/identity" ||
			cd_fail again "identity" "$cd_identity can't be written" "check the vDisk's free space" || return 1
		for cd_key in "$cd_identity"/ssh/ssh_host_*; do
			[ ! -f "$cd_key" ] || { mkdir -p "$cd_etc/ssh" && cp -p "$cd_key" "$cd_etc/ssh/"; }
		done
	fi
	printf '%s\n' "$cd_host" | cd_replace "$cd_etc/hostname" &&
		printf '%s\n' "$cd_id" | cd_replace "$cd_etc/machine-id" &&
		cd_rewrite "$cd_etc/hosts" cd_filter_hosts "$cd_host" &&
		cd_rewrite "$cd_etc/fstab" cd_filter_fstab ||
		cd_fail again "identity" "$cd_etc can't be written" "check the free space of the overlay" || return 1
	if [ "$2" != - ] && [ ! -L "$cd_etc/resolv.conf" ]; then
		printf 'nameserver %s\n' "$2" | cd_replace "$cd_etc/resolv.conf"
	fi
	printf 'InitiatorName=%s\n' "$(cd_meta initiator "$1")" >"$CD_RUN/initiatorname"
	if [ -d "$cd_etc/iscsi" ]; then
		cd_replace "$cd_etc/iscsi/initiatorname.iscsi" <"$CD_RUN/initiatorname"
	fi
}
